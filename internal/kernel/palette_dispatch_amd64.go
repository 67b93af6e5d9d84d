package kernel

// Slices have a multiple of 16 elements.

func cells(l isa, dst []uint16, x []float32, scale, offset float32) {
	if len(x) == 0 {
		return
	}
	_ = dst[len(x)-1]
	switch l {
	case isaAVX512:
		cellsAVX512(&dst[0], &x[0], scale, offset, len(x))
	case isaAVX2:
		cellsAVX2(&dst[0], &x[0], scale, offset, len(x))
	default:
		cellsGo(dst, x, scale, offset)
	}
}

func intervals(l isa, dst []uint8, x []float32, h *Thresholds, bits int) {
	if len(x) == 0 {
		return
	}
	_ = dst[len(x)-1]
	switch l {
	case isaAVX512:
		intervalsAVX512(&dst[0], &x[0], (*[256]float32)(h), bits, len(x))
	case isaAVX2:
		intervalsAVX2(&dst[0], &x[0], (*[256]float32)(h), bits, len(x))
	default:
		intervalsGo(dst, x, h, bits)
	}
}

func lookupError(l isa, x []float32, index []uint8, value *[256]float32, bits int, total *lanes) {
	if len(x) == 0 {
		return
	}
	_ = index[len(x)-1]
	switch l {
	case isaAVX512:
		lookupErrorAVX512(&x[0], &index[0], value, bits, len(x), (*[16]float64)(total))
	case isaAVX2:
		lookupErrorAVX2(&x[0], &index[0], value, bits, len(x), (*[16]float64)(total))
	default:
		lookupErrorGo(x, index, value, total)
	}
}

func maxMagnitude(l isa, x []float32, most *[16]uint32) {
	if len(x) == 0 {
		return
	}
	switch l {
	case isaAVX512:
		maxMagnitudeAVX512(&x[0], len(x), most)
	case isaAVX2:
		maxMagnitudeAVX2(&x[0], len(x), most)
	default:
		maxMagnitudeGo(x, most)
	}
}

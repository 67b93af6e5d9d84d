//go:build !amd64

package kernel

func cells(_ isa, dst []uint16, x []float32, scale, offset float32) { cellsGo(dst, x, scale, offset) }

func intervals(_ isa, dst []uint8, x []float32, h *Thresholds, bits int) {
	intervalsGo(dst, x, h, bits)
}

func lookupError(_ isa, x []float32, index []uint8, value *[256]float32, _ int, total *lanes) {
	lookupErrorGo(x, index, value, total)
}

func maxMagnitude(_ isa, x []float32, most *[16]uint32) { maxMagnitudeGo(x, most) }

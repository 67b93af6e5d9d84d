package kernel

import "math"

// The twins of the kernels that fit palettes.

func cellsGo(dst []uint16, x []float32, scale, offset float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = uint16(min(max(float32(v*scale)+offset, 0), 65535))
	}
}

func intervalsGo(dst []uint8, x []float32, h *Thresholds, bits int) {
	dst = dst[:len(x)]
	for i, v := range x {
		at := uint(1)
		for range bits {
			// Computed without a branch, which would be mispredicted often.
			above := uint(0)
			if v > h[at&255] {
				above = 1
			}
			at = 2*at + above
		}
		dst[i] = uint8(at - 1<<bits)
	}
}

func lookupErrorGo(x []float32, index []uint8, value *[256]float32, _ int, total *lanes) {
	index = index[:len(x)]
	for i, v := range x {
		d := float64(v) - float64(value[index[i]])
		total[i&15] += float64(d * d)
	}
}

func maxMagnitudeGo(x []float32, most *[16]uint32) {
	for i, v := range x {
		most[i&15] = max(most[i&15], math.Float32bits(v)&0x7fffffff)
	}
}

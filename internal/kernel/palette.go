package kernel

import "fmt"

// The element-wise work of fitting palettes: cells of a histogram, the nearest of some
// values, and what is lost by them. All levels give the same bits.

// Cells writes to dst[i] the cell in which x[i] lies, the integer part of
// x[i]·scale + offset with each operation rounded to float32, brought into 0 to 65535.
// dst and x have equal lengths; nothing is said about NaN.
func Cells(dst []uint16, x []float32, scale, offset float32) {
	sameLength("Cells", len(dst), len(x))
	n := vectorLen(len(x))
	cells(currentISA(), dst[:n], x[:n], scale, offset)
	cellsGo(dst[n:], x[n:], scale, offset)
}

// Thresholds is a search tree over 2^bits-1 ascending thresholds t: a binary heap, the
// root at 1, the children of h at 2h and 2h+1, so that every level is an array by itself.
// Element 0 belongs to nothing.
type Thresholds [256]float32

// Set makes the tree of the ascending thresholds t, 2^bits-1 of them, bits from 1 to 8.
func (h *Thresholds) Set(t []float32, bits int) {
	if bits < 1 || bits > 8 || len(t) != 1<<bits-1 {
		panic(fmt.Sprintf("kernel: Thresholds: %d thresholds for %d bits", len(t), bits))
	}
	for level := range bits {
		// The first threshold of a level and the distance of those that follow.
		first, step := 1<<(bits-1-level)-1, 1<<(bits-level)
		for i := range 1 << level {
			h[1<<level+i] = t[first+i*step]
		}
	}
}

// Intervals writes to dst[i] how many of the 2^bits-1 thresholds of h lie below x[i].
// dst and x have equal lengths, bits is from 1 to 8; a NaN gets 0.
func Intervals(dst []uint8, x []float32, h *Thresholds, bits int) {
	sameLength("Intervals", len(dst), len(x))
	if bits < 1 || bits > 8 {
		panic(fmt.Sprintf("kernel: Intervals: %d bits", bits))
	}
	n := vectorLen(len(x))
	intervals(currentISA(), dst[:n], x[:n], h, bits)
	intervalsGo(dst[n:], x[n:], h, bits)
}

// LookupError returns Σ (x[i] - value[index[i]])², summed in float64. x and index have
// equal lengths; indices are below 2^bits, bits from 1 to 8.
func LookupError(x []float32, index []uint8, value *[256]float32, bits int) float64 {
	sameLength("LookupError", len(index), len(x))
	if bits < 1 || bits > 8 {
		panic(fmt.Sprintf("kernel: LookupError: %d bits", bits))
	}
	n := vectorLen(len(x))
	var total lanes
	lookupError(currentISA(), x[:n], index[:n], value, bits, &total)
	lookupErrorGo(x[n:], index[n:], value, bits, &total)
	return total.sum()
}

// MaxMagnitude returns the bits of the largest |x[i]|, 0 for none. NaN and ±Inf give
// 0x7f800000 or more.
func MaxMagnitude(x []float32) uint32 {
	n := vectorLen(len(x))
	var most [16]uint32
	maxMagnitude(currentISA(), x[:n], &most)
	maxMagnitudeGo(x[n:], &most)
	largest := uint32(0)
	for _, m := range most {
		largest = max(largest, m)
	}
	return largest
}

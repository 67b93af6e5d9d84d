package kernel

import "fmt"

// The element-wise operations of fitting a palette: histogram cells, nearest values and the squared
// error. All levels give the same bits.

// Cells writes to dst[i] the histogram cell of x[i]: the integer part of x[i]·scale + offset, with
// each operation rounded to float32, clamped to 0 to 65535. dst and x have equal lengths. The
// result for NaN is unspecified.
func Cells(dst []uint16, x []float32, scale, offset float32) {
	sameLength("Cells", len(dst), len(x))
	n := vectorLen(len(x))
	cells(currentISA(), dst[:n], x[:n], scale, offset)
	cellsGo(dst[n:], x[n:], scale, offset)
}

// Thresholds is a search tree of 2^bits-1 thresholds, stored as a binary heap: the root is element 1,
// and the children of element h are 2h and 2h+1, so that every level is contiguous. Element 0 is
// unused.
type Thresholds [256]float32

// Set builds the tree of 2^bits-1 ascending thresholds t; bits is 1 to 8.
func (h *Thresholds) Set(t []float32, bits int) {
	if bits < 1 || bits > 8 || len(t) != 1<<bits-1 {
		panic(fmt.Sprintf("kernel: Thresholds.Set: %d thresholds for %d bits", len(t), bits))
	}
	for level := range bits {
		// The index in t of the first threshold of a level, and the distance to the next.
		first, step := 1<<(bits-1-level)-1, 1<<(bits-level)
		for i := range 1 << level {
			h[1<<level+i] = t[first+i*step]
		}
	}
}

// Intervals writes to dst[i] the number of thresholds of h that are less than x[i], 0 for NaN. dst and
// x have equal lengths; bits is that of [Thresholds.Set].
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
// equal lengths; every index is less than 2^bits, and bits is 1 to 8.
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

// MaxMagnitude returns the float32 bits of the largest |x[i]|, 0 if x is empty. The result is
// 0x7f800000 or more if x contains NaN or ±Inf.
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

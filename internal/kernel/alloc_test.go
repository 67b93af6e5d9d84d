package kernel

import "testing"

// TestDecodeAllocatesNothing requires that a product of one row, as decoding computes it, allocates
// nothing after the first.
func TestDecodeAllocatesNothing(t *testing.T) {
	const n, k = 512, 512
	for _, threads := range []int{1, 2} {
		p := NewPool(threads)
		x, y := scaled(k, 1, 2), make([]float32, n)
		for _, f := range benchFormats {
			w := f.make(n, k)
			p.MulT(y, x, 1, w)
			if got := testing.AllocsPerRun(50, func() { p.MulT(y, x, 1, w) }); got != 0 {
				t.Errorf("%s, %d threads: %v allocations in a product of one row", f.name, threads, got)
			}
		}
		p.Close()
	}
}

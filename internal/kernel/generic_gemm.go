package kernel

import "unsafe"

// genericGemms holds the microkernels in plain Go, the twins of those in gemm_*.s.
var genericGemms = func() *gemmSet {
	set := &gemmSet{mr: 4}
	for mr := 1; mr <= set.mr; mr++ {
		set.funcs[mr][0] = func(kc int, a, b *float32, _ int, c *float32, ldc, add int) {
			gemmGo(mr, unsafe.Slice(a, kc*mr), unsafe.Slice(b, kc*PanelRows),
				unsafe.Slice(c, (mr-1)*ldc+PanelRows), ldc, add)
		}
	}
	return set
}()

// gemmGo is a microkernel for one panel. It computes two rows of four columns at a time, whose sums
// fit in registers. The conversions forbid fusing a product with its sum, which the Go compiler does
// on some architectures only.
func gemmGo(mr int, a, b, c []float32, ldc, add int) {
	for j := 0; j < PanelRows; j += 4 {
		r := 0
		for ; r+2 <= mr; r += 2 {
			var s00, s01, s02, s03, s10, s11, s12, s13 float32
			for i, o := r, j; o+4 <= len(b); i, o = i+mr, o+PanelRows {
				x0, x1 := a[i], a[i+1]
				w := (*[4]float32)(b[o : o+4])
				s00 += float32(x0 * w[0])
				s01 += float32(x0 * w[1])
				s02 += float32(x0 * w[2])
				s03 += float32(x0 * w[3])
				s10 += float32(x1 * w[0])
				s11 += float32(x1 * w[1])
				s12 += float32(x1 * w[2])
				s13 += float32(x1 * w[3])
			}
			storeGo(c[r*ldc+j:][:4], add, s00, s01, s02, s03)
			storeGo(c[(r+1)*ldc+j:][:4], add, s10, s11, s12, s13)
		}
		for ; r < mr; r++ {
			var s0, s1, s2, s3 float32
			for i, o := r, j; o+4 <= len(b); i, o = i+mr, o+PanelRows {
				x := a[i]
				w := (*[4]float32)(b[o : o+4])
				s0 += float32(x * w[0])
				s1 += float32(x * w[1])
				s2 += float32(x * w[2])
				s3 += float32(x * w[3])
			}
			storeGo(c[r*ldc+j:][:4], add, s0, s1, s2, s3)
		}
	}
}

// storeGo stores four sums in c, or adds them if add is not 0.
func storeGo(c []float32, add int, s0, s1, s2, s3 float32) {
	if add != 0 {
		s0, s1, s2, s3 = c[0]+s0, c[1]+s1, c[2]+s2, c[3]+s3
	}
	c[0], c[1], c[2], c[3] = s0, s1, s2, s3
}

// gatherGo is the twin of the gather kernels.
func gatherGo(dst []float32, step int, src []float32, ld, n int) {
	for r := range n {
		copy(dst[r*step:][:PanelRows], src[r*ld:])
	}
}

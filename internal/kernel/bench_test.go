package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func best(n int, f func()) float64 {
	b := 1e9
	for range n {
		t := time.Now()
		f()
		b = min(b, time.Since(t).Seconds())
	}
	return b
}

func TestSpeed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, lv := range []string{"avx512", "avx2"} {
		SelectLevel(lv)
		var fl int
		s := best(10, func() {
			fl = peak(currentISA(), 1<<20)
		})
		pk := float64(fl) / s / 1e9
		fmt.Println(lv, "peak", pk)
		for _, d := range [][3]int{{512, 2048, 2048}, {256, 896, 320}, {256, 320, 896}, {16, 2048, 2048}, {1, 4096, 4096}, {2, 4096, 4096}, {4, 4096, 4096}, {6, 4096, 4096}, {8, 4096, 4096}} {
			m, n, k := d[0], d[1], d[2]
			x, w, y := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
			h := make([]uint16, n*k)
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			for i := range w {
				w[i] = float32(r.NormFloat64())
			}
			F32ToF16(h, w)
			idx := make([]byte, n*k/2)
			for i := range idx {
				idx[i] = byte(r.Uint32())
			}
			sc := make([]uint16, n)
			for i := range sc {
				sc[i] = 0x3c00
			}
			q := make([]int8, n*k)
			for fi, mat := range []*Matrix{PackF32(n, k, w), PackF16(n, k, h), PackBF16(n, k, h), PackInt8(n, k, q, make([]float32, n)), PackLUT(n, k, 4, 16, idx, h[:n], nil), PackLUT(n, k, 4, 16, idx, h[:n], sc), PackLUT(n, k, 2, 16, idx[:n*k/4], h[:n/4], nil), PackLUT(n, k, 2, 16, idx[:n*k/4], h[:n/4], sc)} {
				for th := 1; th <= 2; th++ {
					p := NewPool(th)
					s := best(max(5, 800_000_000/(m*n*k)), func() { p.MulT(y, x, m, mat) })
					gf := 2 * float64(m*n*k) / s / 1e9
					fmt.Printf("%v f%d threads %d: %.1f GF/s  %.1f%% of peak, %.1f GB/s\n", d, fi, th, gf, 100*gf/pk/float64(th), float64(mat.Bytes())/s/1e9)
					p.Close()
				}
			}
		}
	}
	SelectLevel("avx512")
}

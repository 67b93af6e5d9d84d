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
			if lv == "avx512" {
				fl = peakAVX512(1 << 20)
			} else {
				fl = peakAVX2(1 << 20)
			}
		})
		pk := float64(fl) / s / 1e9
		fmt.Println(lv, "peak", pk)
		for _, d := range [][3]int{{512, 2048, 2048}, {256, 896, 320}, {256, 320, 896}, {16, 2048, 2048}, {1, 4096, 4096}, {2, 4096, 4096}, {4, 4096, 4096}} {
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
			for fi, mat := range []*Matrix{PackF32(n, k, w), PackF16(n, k, h)} {
				for th := 1; th <= 2; th++ {
					p := NewPool(th)
					s := best(max(5, 200_000_000/(m*n*k)), func() { p.MulT(y, x, m, mat) })
					gf := 2 * float64(m*n*k) / s / 1e9
					fmt.Printf("%v f%d threads %d: %.1f GF/s  %.1f%% of peak, %.1f GB/s\n", d, fi, th, gf, 100*gf/pk/float64(th), float64(mat.Bytes())/s/1e9)
					p.Close()
				}
			}
		}
	}
	SelectLevel("avx512")
}

package kernel

import "unsafe"

// The twins of the tile kernels: X and W in one part; X in two, W in one; both in two.
var bf16Go, split2Go, split3Go = tileGo(1, 1), tileGo(2, 1), tileGo(2, 2)

// tileKernelGo is the twin of tileKernel.
func tileKernelGo(split bool, wParts int) tileFunc {
	switch {
	case !split:
		return bf16Go
	case wParts == 1:
		return split2Go
	}
	return split3Go
}

// tileGo returns the twin of the kernel for the given numbers of parts.
func tileGo(xParts, wParts int) tileFunc {
	return func(_ *byte, hi, lo *uint16, whi, wlo *uint16, ps int, c *float32, strips, steps, stride, add int) {
		size := steps*tileStep + stride
		x := [2][]uint16{unsafe.Slice(hi, strips*size-stride)}
		if xParts == 2 {
			x[1] = unsafe.Slice(lo, strips*size-stride)
		}
		n := ps + steps*tileCols*PanelRows
		w := [2][]uint16{unsafe.Slice(whi, n)}
		if wParts == 2 {
			w[1] = unsafe.Slice(wlo, n)
		}
		sums := unsafe.Slice(c, strips*amxSums)
		if add == 0 {
			clear(sums)
		}
		for i := range sums {
			s, half, panel, row, j := i/amxSums, i/512%2, i/256%2, i/16%16, i%16
			for step := range steps {
				for _, part := range [][2]int{{1, 0}, {0, 0}, {0, 1}} {
					if part[0] >= xParts || part[1] >= wParts {
						continue
					}
					a := x[part[0]][s*size+step*tileStep+(half*16+row)*tileCols:][:tileCols]
					b := w[part[1]][panel*ps+step*tileCols*PanelRows:]
					for k, v := range a {
						sums[i] += float32(bfloatToFloat(v) * bfloatToFloat(b[k/2*2*PanelRows+2*j+k%2]))
					}
				}
			}
		}
	}
}

// roundBF16Go rounds x to bfloat16 in place.
func roundBF16Go(x []float32) {
	for i, v := range x {
		x[i] = bfloatToFloat(floatToBfloat(v))
	}
}

// narrowRowGo writes a row of X, in steps of 32 columns, as bfloat16 in the given order. The steps
// are tileStep elements apart. If lo is not nil it writes the low parts there.
func narrowRowGo(hi, lo []uint16, x []float32, order *[tileCols]uint16) {
	for s := 0; s*tileCols < len(x); s++ {
		for i, at := range order {
			h, l := parts(x[s*tileCols+int(at)/2])
			hi[s*tileStep+i] = h
			if lo != nil {
				lo[s*tileStep+i] = l
			}
		}
	}
}

// narrowPanelGo writes columns [k][16] as pairs [k/2][16][2] of bfloat16. If lo is not nil it writes
// the low parts there.
func narrowPanelGo(hi, lo []uint16, src []float32) {
	for i, v := range src {
		k, j := i/PanelRows, i%PanelRows
		at := k/2*2*PanelRows + 2*j + k%2
		h, l := parts(v)
		hi[at] = h
		if lo != nil {
			lo[at] = l
		}
	}
}

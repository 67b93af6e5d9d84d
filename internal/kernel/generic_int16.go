package kernel

import (
	"math"
	"unsafe"
)

// quantizeI16Go rounds x, a multiple of 16 elements, to 16-bit integers q, x ≈ scale·q, with one
// scale for each block of scaleCols elements. The sum of magnitudes of a block is at most limit
// before rounding. The scale is NaN if an element of the block is not finite. order gives the source
// of each of 16 elements.
func quantizeI16Go(dst []int16, scale, x []float32, limit float32, order *[16]uint16) {
	for b := 0; b*scaleCols < len(x); b++ {
		block := x[b*scaleCols : min((b+1)*scaleCols, len(x))]
		var sum, top [16]float32
		for i, v := range block {
			v = float32(math.Abs(float64(v)))
			sum[i%16] += v
			if v > top[i%16] {
				top[i%16] = v
			}
		}
		for apart := 8; apart > 0; apart /= 2 {
			for i := range apart {
				sum[i] += sum[i+apart]
				top[i] = max(top[i], top[i+apart])
			}
		}
		inv, other := limit/sum[0], math.MaxInt16/top[0]
		if other < inv {
			inv = other
		}
		if !(inv < 1e30) {
			inv = 1e30
		}
		scale[b] = 1/inv + (sum[0] - sum[0])
		for i := range block {
			v := float32(block[i&^15+int(order[i%16])] * inv)
			q := math.RoundToEven(float64(v))
			if !(q > math.MinInt16 && q < 1<<31) { // as VCVTPS2DQ: NaN and values out of range become the smallest integer
				q = math.MinInt16
			}
			dst[b*scaleCols+i] = int16(min(q, math.MaxInt16))
		}
	}
}

// widenI16Go writes stored weights of one panel as pairs, [pair][16][2]. A load is one dword of packed
// indices, or two int8 columns, for each of 16 rows.
func widenI16Go(format format, dst []int16, src unsafe.Pointer, table []int16, loads int) {
	if format == formatInt8 {
		q := unsafe.Slice((*int8)(src), loads*2*PanelRows)
		for i := range loads * 2 * PanelRows {
			pair, row, column := i/32, i%32/2, i%2
			dst[i] = int16(q[(2*pair+column)*PanelRows+row])
		}
		return
	}
	field := 4
	if format == formatLUT2 {
		field = 2
	}
	pairs := 16 / field
	dwords := unsafe.Slice((*uint32)(src), loads*PanelRows)
	for l := range loads {
		for n := range pairs {
			for row := range PanelRows {
				v := dwords[l*PanelRows+row] >> (n * field)
				at := ((l*pairs+n)*PanelRows + row) * 2
				dst[at] = table[v&(1<<field-1)]
				dst[at+1] = table[v>>16&(1<<field-1)]
			}
		}
	}
}

// genericI16 holds the 16-bit integer microkernels in plain Go.
var genericI16 = func() *gemmI16Set {
	set := &gemmI16Set{mr: 4}
	for mr := 1; mr <= set.mr; mr++ {
		set.funcs[mr][0] = func(pairs int, a *int16, scale *float32, b *int16, _ int, c *float32, ldc, add int) {
			blocks := (2*pairs + scaleCols - 1) / scaleCols
			gemmI16Go(mr, unsafe.Slice(a, pairs*mr*2), unsafe.Slice(scale, blocks*mr),
				unsafe.Slice(b, pairs*PanelRows*2), unsafe.Slice(c, (mr-1)*ldc+PanelRows), ldc, add)
		}
	}
	return set
}()

// gemmI16Go is a 16-bit integer microkernel for one panel.
func gemmI16Go(mr int, a []int16, scale []float32, b []int16, c []float32, ldc, add int) {
	pairs := len(b) / (2 * PanelRows)
	for r := range mr {
		for j := range PanelRows {
			for k0 := 0; k0 < pairs; k0 += scaleCols / 2 {
				var sum int32
				for k := k0; k < min(k0+scaleCols/2, pairs); k++ {
					x, w := a[(k*mr+r)*2:][:2], b[(k*PanelRows+j)*2:][:2]
					sum += int32(x[0])*int32(w[0]) + int32(x[1])*int32(w[1])
				}
				v := float32(float32(sum) * scale[k0/(scaleCols/2)*mr+r])
				if add != 0 || k0 > 0 {
					v += c[r*ldc+j]
				}
				c[r*ldc+j] = v
			}
		}
	}
}

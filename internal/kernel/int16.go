package kernel

import (
	"math"
	"unsafe"
)

// scaleCols is the columns of a row of X that share one factor in 16-bit arithmetic.
const scaleCols = 128

// tableMax is the largest magnitude of a table entry in 16-bit arithmetic. With 14 bits for
// the weights and what sumLimit leaves for the activations of a block both lose about
// the same.
const tableMax = 1<<13 - 1

// sumLimit returns the most that the magnitudes of a block of activations may sum to, so that
// no sum of products with weights of at most the given magnitude leaves 32 bits.
// Rounding adds half a unit to each.
func sumLimit(most int) float32 {
	return float32(math.MaxInt32)/float32(most)*(1-1.0/1024) - scaleCols/2
}

// int16Form is what a matrix needs beside its indices for products in 16-bit integers.
//
// Two columns of a row make a pair, one dword: a panel widens to [pair][16][2] int16, as
// VPDPWSSD wants it. Which columns pair up follows from how indices are stored: in a dword of
// 4-bit indices columns n and n+4, as these lie 16 bits apart, with 2 bits n and n+8.
// int8 columns pair up with their neighbours. Activations are brought into the same order.
type int16Form struct {
	table  []int16     // [panel][tables][32], rounded; entries repeat, as kernels do not mask the bits above
	tables int         // vectors of 32 entries for each panel
	factor []float32   // [panel·16] multiplies the finished sum of a row
	limit  float32     // most that the rounded magnitudes of a block of activations may sum to
	order  *[16]uint16 // of 16 columns, which stands at each place
	block  int         // columns in one load of indices
}

// Where each of 16 columns comes from, by how many columns lie between two of a pair.
var (
	orderNext = pairOrder(1)
	orderLUT4 = pairOrder(4)
	orderLUT2 = pairOrder(8)
)

func pairOrder(apart int) *[16]uint16 {
	var o [16]uint16
	for i := range o {
		pair := i / 2
		o[i] = uint16(pair/apart*2*apart + pair%apart + i%2*apart)
	}
	return &o
}

// int16 returns the form of w, or nil where it has none: dense weights, indices of more
// than 4 bits, groups of rows that panels do not hold, and weights that are not finite.
func (w *Matrix) int16() *int16Form {
	w.once16.Do(func() { w.form16 = w.newInt16() })
	return w.form16
}

func (w *Matrix) newInt16() *int16Form {
	f := &int16Form{factor: make([]float32, w.panels()*PanelRows)}
	switch w.format {
	case formatInt8:
		f.order, f.limit, f.block = orderNext, sumLimit(128), 2
		copy(f.factor, w.scale)
		return f
	case formatLUT4:
		f.order, f.tables, f.block = orderLUT4, 1, 8
	case formatLUT2:
		f.order, f.tables, f.block = orderLUT2, 2, 16
	default:
		return nil
	}
	f.limit = sumLimit(tableMax)
	f.table = make([]int16, w.panels()*f.tables*32)
	for p := range w.panels() {
		table := w.table[p*PanelRows:][:PanelRows]
		var most float64
		for _, v := range table {
			most = math.Max(most, math.Abs(float64(v)))
		}
		if math.IsInf(most, 0) || math.IsNaN(most) {
			return nil
		}
		scale := 0.0
		if most > 0 {
			scale = tableMax / most
		}
		for i := range f.tables * 32 {
			// The second table of 2-bit indices looks at the field above the lowest.
			entry := i % 32 >> (i / 32 * 2) & 15
			f.table[p*f.tables*32+i] = int16(math.RoundToEven(float64(table[entry]) * scale))
		}
		for r := range PanelRows {
			if most > 0 {
				f.factor[p*PanelRows+r] = float32(most / tableMax * float64(w.scale[p*PanelRows+r]))
			}
		}
	}
	return f
}

// pairs returns how many pairs the first kc columns of a block take.
func (f *int16Form) pairs(kc int) int { return (kc + f.block - 1) / f.block * (f.block / 2) }

// roundedCols returns the elements of a row of X in 16-bit integers.
func roundedCols(cols int) int { return (cols + 15) &^ 15 }

// scaleBlocks returns the factors of a row of X.
func scaleBlocks(cols int) int { return (cols + scaleCols - 1) / scaleCols }

// round writes a row of X as integers in the form's order, [roundedCols], and the
// factors of its blocks.
func (f *int16Form) round(lv isa, dst []int16, scale, x []float32) {
	whole := len(x) / scaleCols * scaleCols
	if whole > 0 {
		quantizeI16(lv, dst[:whole], scale, x[:whole], f.limit, f.order)
	}
	if rest := len(x) - whole; rest > 0 {
		var last [scaleCols]float32
		copy(last[:], x[whole:])
		n := roundedCols(rest)
		quantizeI16(lv, dst[whole:whole+n], scale[whole/scaleCols:], last[:n], f.limit, f.order)
	}
}

// quantizeI16Go rounds x, a multiple of 16 elements, to 16-bit integers: x ≈ scale·q
// with one scale for every block of scaleCols, such that the magnitudes of a block sum to
// at most limit. Where a value of a block is not finite its scale is not a number.
// order says which of 16 values stands at each place.
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
			if !(q > math.MinInt16 && q < 1<<31) { // conversion gives the most negative int for what it cannot
				q = math.MinInt16
			}
			dst[b*scaleCols+i] = int16(min(q, math.MaxInt16))
		}
	}
}

// widenI16Go writes loads of stored weights of one panel as pairs, [pair][16][2].
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

// gemmI16Func multiplies a strip of mr rows of A with np neighbouring panels of B, both in
// pairs of 16-bit integers:
//
//	C[r][16·p+j] (+)= Σb scale[b][r]·float32(Σk A[k][r]·B[p][k][j])
//
// where b counts blocks of scaleCols columns, whose sums over pairs k are exact. a is
// [pairs][mr] dwords, panel p of B starts ps elements after panel p−1 and is [pairs][16]
// dwords, scale is [blocks][mr]. Products with factors and additions to C round to float32
// one after the other.
type gemmI16Func func(pairs int, a *int16, scale *float32, b *int16, ps int, c *float32, ldc, add int)

// fusedI16Func is a gemmI16Func for one row and weights as they are stored, whose panels are ps
// bytes apart; table is [np][tables][32], where the format has them.
type fusedI16Func func(pairs int, x *int16, scale *float32, b *byte, ps int, table *int16, c *float32, add int)

// fusedI16Set holds a format's kernels by log2 of panels.
type fusedI16Set [nWide]fusedI16Func

// fusedI16 reports whether a kernel of the level multiplies w in its stored form. Such kernels
// read int8 columns in pairs.
func (w *Matrix) fusedI16(l isa) bool {
	return fusedKernelsI16(l, w.format) != nil && (w.format != formatInt8 || w.cols%2 == 0)
}

// gemmI16Set is the microkernels of one level, by rows and by log2 of panels.
type gemmI16Set struct {
	mr    int
	funcs [maxStrip + 1][nWide]gemmI16Func
}

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

// gemmI16Go is a microkernel for one panel.
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

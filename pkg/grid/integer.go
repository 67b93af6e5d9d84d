package grid

import (
	"fmt"

	"afmq/pkg/compute"
	"afmq/pkg/gptq"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// Integer stores a weight as scale·(q - zero) with a code q and, for every group of columns of a
// row, a scale: integers of compressed-tensors in its format pack-quantized. zero is half the
// number of codes or, with ZeroPoint, a code of each group. The value is computed in float32.
type Integer struct {
	Bits      int               // of a code, 2 to 8
	Group     int               // columns that share a scale: 32, 64 or 128; 0 for a whole row
	ZeroPoint bool              // every group has a zero point
	Scales    safetensors.DType // F16 or BF16; F16 if it is not set
}

// kind returns the name without numbers.
func (g Integer) kind() string {
	if g.ZeroPoint {
		return "asymmetric"
	}
	return "symmetric"
}

// String returns a name such as "symmetric4_g128", or "asymmetric4_row" for a whole row.
func (g Integer) String() string {
	if g.Group == 0 {
		return fmt.Sprintf("%s%d_row", g.kind(), g.Bits)
	}
	return fmt.Sprintf("%s%d_g%d", g.kind(), g.Bits, g.Group)
}

// CodeBits returns Bits.
func (g Integer) CodeBits() int { return g.Bits }

// Run returns Group; 1 for a whole row.
func (g Integer) Run() int { return max(g.Group, 1) }

func (g Integer) valid() error {
	if g.Bits < 2 || g.Bits > 8 {
		return fmt.Errorf("the %s grid has 2 to 8 bits, not %d", g.kind(), g.Bits)
	}
	if g.Group == 0 {
		return nil
	}
	return validGroup(g.Group)
}

// Check returns an error if groups do not divide a row.
func (g Integer) Check(cols int) error {
	if err := g.valid(); err != nil || g.Group == 0 {
		return err
	}
	return dividesColumns(g, g.Group, cols)
}

// groups returns the groups of a row.
func (g Integer) groups(cols int) int {
	if g.Group == 0 {
		return 1
	}
	return cols / g.Group
}

// words returns how many words of 32 bits n codes take.
func (g Integer) words(n int) int { return (n*g.Bits + 31) / 32 }

// Tensors returns the codes, I32 [rows, ⌈cols·Bits/32⌉], packed without gaps from the least
// significant bit of a row on, the scales [rows, groups], and zero points, which are packed like
// codes but along the rows: I32 [⌈rows·Bits/32⌉, groups]. compressed-tensors packs them so since
// 0.18; before, it left gaps between words unless Bits divides 32.
func (g Integer) Tensors(rows, cols int) []safetensors.Info {
	k := g.groups(cols)
	out := []safetensors.Info{
		{Name: "." + g.String(), DType: safetensors.I32, Shape: []int{rows, g.words(cols)}},
		{Name: ".scales", DType: scaleType(g.Scales), Shape: []int{rows, k}},
	}
	if g.ZeroPoint {
		out = append(out, safetensors.Info{Name: ".zero_points", DType: safetensors.I32, Shape: []int{g.words(rows), k}})
	}
	return out
}

func (g Integer) scaled() scaled {
	return scaled{levels: 1 << g.Bits, group: g.Group, zeros: g.ZeroPoint, half: scaleType(g.Scales)}
}

// Quantize fits the scale, and the zero point, of every group to its weights.
func (g Integer) Quantize(pool *compute.Pool, src Source, rows, cols int, importance []float32) (Data, gptq.Report, error) {
	zeros := g.newZeros(rows, cols)
	data, r, err := quantizeScaled(pool, g, g.scaled(), src, rows, cols, importance, zeros.put)
	zeros.pack(data)
	return data, r, err
}

// Compensate fits groups first and then chooses codes, scales and zero points by the Hessian.
func (g Integer) Compensate(pool *compute.Pool, src Source, rows, cols int, f *gptq.Factor, out *gptq.Output) (Data, gptq.Report, error) {
	zeros := g.newZeros(rows, cols)
	data, r, err := compensateScaled(pool, g, g.scaled(), src, rows, cols, f, out, zeros.put)
	zeros.pack(data)
	return data, r, err
}

// zeroPoints collects zero points [rows, groups]: rows that are quantized at the same time share
// words.
type zeroPoints struct {
	Integer
	groups int
	zeros  []uint8 // nil without zero points
}

func (g Integer) newZeros(rows, cols int) *zeroPoints {
	z := &zeroPoints{Integer: g, groups: g.groups(cols)}
	if g.ZeroPoint {
		z.zeros = make([]uint8, rows*z.groups)
	}
	return z
}

// put stores a row.
func (z *zeroPoints) put(data Data, row int, r *scaledRow) {
	first := 4 * row * z.words(len(r.codes))
	palettize.PackRow(data[0][first:first+z.bytes(len(r.codes))], r.codes, z.Bits)
	putGroups(data[1][2*row*z.groups:], nil, r.groups)
	if z.zeros != nil {
		for i, x := range r.groups {
			z.zeros[row*z.groups+i] = uint8(x.zero)
		}
	}
}

// bytes returns how many bytes n codes take, without the padding to a word.
func (g Integer) bytes(n int) int { return (n*g.Bits + 7) / 8 }

// pack writes the zero points to data, which is nil after an error.
func (z *zeroPoints) pack(data Data) {
	if data == nil || z.zeros == nil {
		return
	}
	rows := len(z.zeros) / z.groups
	column, packed := make([]uint8, rows), make([]byte, 4*z.words(rows))
	for k := range z.groups {
		for r := range column {
			column[r] = z.zeros[r*z.groups+k]
		}
		palettize.PackRow(packed[:z.bytes(rows)], column, z.Bits)
		for w := range z.words(rows) {
			copy(data[2][4*(w*z.groups+k):], packed[4*w:4*w+4])
		}
	}
}

// zeroPoint returns the zero point of a group of a row from those of all.
func (g Integer) zeroPoint(packed []byte, groups, row, group int) float32 {
	code := 0
	for i := range g.Bits {
		at := row*g.Bits + i
		code |= int(packed[4*(at/32*groups+group)+at%32/8]>>(at%8)&1) << i
	}
	return float32(code)
}

// Weights has the values of compressed-tensors' decompression with scales in float32.
func (g Integer) Weights(data Data, rows, cols int) (Rows, error) {
	if err := checkData(g, data, rows, cols); err != nil {
		return nil, err
	}
	return scaledRows(cols, g.groups(cols), func(row int, r *scaledRow) { g.get(data, row, r) }), nil
}

// get reads a row.
func (g Integer) get(data Data, row int, r *scaledRow) {
	palettize.UnpackRow(r.codes, data[0][4*row*g.words(len(r.codes)):][:g.bytes(len(r.codes))], g.Bits)
	k := len(r.groups)
	getGroups(r.groups, g.Scales, data[1], row*k)
	for i := range r.groups {
		r.groups[i].zero = float32(int(1) << (g.Bits - 1))
		if g.ZeroPoint {
			r.groups[i].zero = g.zeroPoint(data[2], k, row, i)
		}
	}
}

// CheckPadding returns an error for set bits after the last code of a row, or after the last zero
// point.
func (g Integer) CheckPadding(data Data, rows, cols int) error {
	if err := checkData(g, data, rows, cols); err != nil {
		return err
	}
	set := func(packed []byte, used int) bool {
		for i := used; i < 8*len(packed); i++ {
			if packed[i/8]>>(i%8)&1 != 0 {
				return true
			}
		}
		return false
	}
	words := g.words(cols)
	for r := range rows {
		last := 4 * ((r+1)*words - 1)
		if set(data[0][last:last+4], cols*g.Bits-32*(words-1)) {
			return fmt.Errorf("row %d has set bits after its last code", r)
		}
	}
	if !g.ZeroPoint {
		return nil
	}
	groups, words := g.groups(cols), g.words(rows)
	for k := range groups {
		last := 4 * ((words-1)*groups + k)
		if set(data[2][last:last+4], rows*g.Bits-32*(words-1)) {
			return fmt.Errorf("group %d has set bits after its last zero point", k)
		}
	}
	return nil
}

// QuantizeWork is the work of the fit.
func (g Integer) QuantizeWork(rows, cols int) int64 {
	if g.ZeroPoint {
		return affineFitWork * int64(rows) * int64(cols)
	}
	return symmetricFitWork * int64(rows) * int64(cols)
}

// CompensateWork is the work of the fit, of the codes and of package gptq.
func (g Integer) CompensateWork(rows, cols int, full bool) int64 {
	return g.QuantizeWork(rows, cols) + codesWork*int64(rows)*int64(cols) + gptq.RefineWork(rows, cols, full)
}

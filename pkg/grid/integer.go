package grid

import (
	"encoding/binary"
	"fmt"

	"afmq/pkg/compute"
	"afmq/pkg/gptq"
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

// perWord returns the codes in a word of 32 bits.
func (g Integer) perWord() int { return 32 / g.Bits }

// Tensors returns the codes, I32 [rows, ⌈cols/n⌉], where n = ⌊32/Bits⌋ codes share a word from its
// least significant bit on, the scales [rows, groups], and zero points, which are packed like codes
// but along the rows: I32 [⌈rows/n⌉, groups].
func (g Integer) Tensors(rows, cols int) []safetensors.Info {
	k, n := g.groups(cols), g.perWord()
	out := []safetensors.Info{
		{Name: "." + g.String(), DType: safetensors.I32, Shape: []int{rows, (cols + n - 1) / n}},
		{Name: ".scales", DType: scaleType(g.Scales), Shape: []int{rows, k}},
	}
	if g.ZeroPoint {
		out = append(out, safetensors.Info{Name: ".zero_points", DType: safetensors.I32, Shape: []int{(rows + n - 1) / n, k}})
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
func (g Integer) Compensate(pool *compute.Pool, src Source, rows, cols int, f *gptq.Factor) (Data, gptq.Report, error) {
	zeros := g.newZeros(rows, cols)
	data, r, err := compensateScaled(pool, g, g.scaled(), src, rows, cols, f, zeros.put)
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
	n := z.perWord()
	words := (len(r.codes) + n - 1) / n
	packed := data[0][4*row*words:]
	for i := range words {
		binary.LittleEndian.PutUint32(packed[4*i:], z.word(r.codes[i*n:min((i+1)*n, len(r.codes))], 1))
	}
	putGroups(data[1][2*row*z.groups:], nil, r.groups)
	if z.zeros != nil {
		for i, x := range r.groups {
			z.zeros[row*z.groups+i] = uint8(x.zero)
		}
	}
}

// word packs codes that are step elements apart, as many as there are up to perWord.
func (g Integer) word(codes []uint8, step int) (w uint32) {
	for i := 0; i < g.perWord() && i*step < len(codes); i++ {
		w |= uint32(codes[i*step]) << (i * g.Bits)
	}
	return w
}

// code returns code i of packed words.
func (g Integer) code(words []byte, i int) uint8 {
	n := g.perWord()
	return uint8(binary.LittleEndian.Uint32(words[i/n*4:]) >> (i % n * g.Bits) & (1<<g.Bits - 1))
}

// pack writes the zero points to data, which is nil after an error.
func (z *zeroPoints) pack(data Data) {
	if data == nil || z.zeros == nil {
		return
	}
	for i := range len(data[2]) / 4 {
		first := i/z.groups*z.perWord()*z.groups + i%z.groups
		binary.LittleEndian.PutUint32(data[2][4*i:], z.word(z.zeros[first:], z.groups))
	}
}

// Weights has the values of compressed-tensors' decompression with scales in float32.
func (g Integer) Weights(data Data, rows, cols int) (Rows, error) {
	if err := checkData(g, data, rows, cols); err != nil {
		return nil, err
	}
	groups, n := g.groups(cols), g.perWord()
	words, size := (cols+n-1)/n, cols/groups
	return func(dst []float32, r0, r1 int) error {
		scales := widen(g.Scales, data[1], r0*groups, r1*groups)
		for r := r0; r < r1; r++ {
			packed := data[0][4*r*words : 4*(r+1)*words]
			out := dst[(r-r0)*cols : (r-r0+1)*cols]
			for k := range groups {
				x := group{scale: scales[(r-r0)*groups+k], zero: float32(int(1) << (g.Bits - 1))}
				if g.ZeroPoint {
					word := data[2][4*(r/n*groups+k):]
					x.zero = float32(g.code(word, r%n))
				}
				for j := k * size; j < (k+1)*size; j++ {
					out[j] = x.value(g.code(packed, j))
				}
			}
		}
		return nil
	}, nil
}

// QuantizeWork is the work of the fit.
func (g Integer) QuantizeWork(rows, cols int) int64 {
	if g.ZeroPoint {
		return affineFitWork * int64(rows) * int64(cols)
	}
	return symmetricFitWork * int64(rows) * int64(cols)
}

// CompensateWork is the work of the fit, of the codes and of package gptq.
func (g Integer) CompensateWork(rows, cols int) int64 {
	return g.QuantizeWork(rows, cols) + codesWork*int64(rows)*int64(cols) + gptq.RefineWork(rows, cols)
}

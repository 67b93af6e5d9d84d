package grid

import (
	"fmt"

	"afmq/pkg/compute"
	"afmq/pkg/gptq"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// Palette stores indices into look-up tables that rows share; see package palettize.
type Palette struct {
	Bits      int  // of an index, 1 to 8
	GroupRows int  // rows that share a table
	RowScale  bool // every row has an fp16 factor
}

// String returns "palette".
func (g Palette) String() string { return "palette" }

// CodeBits returns the bits of an index.
func (g Palette) CodeBits() int { return g.Bits }

// Check accepts any number of columns.
func (g Palette) Check(int) error {
	if g.Bits < 1 || g.Bits > palettize.MaxBits || g.GroupRows < 1 {
		return fmt.Errorf("palettes have 1 to %d bits, and at least one row shares a table; there are %d bits and %d rows", palettize.MaxBits, g.Bits, g.GroupRows)
	}
	return nil
}

// Run returns 1: columns share nothing.
func (g Palette) Run() int { return 1 }

// Tensors returns indices U8 [rows, ⌈cols·bits/8⌉], tables F16 [⌈rows/GroupRows⌉, 2^bits] and row
// scales F16 [rows].
func (g Palette) Tensors(rows, cols int) []safetensors.Info {
	m := palettize.Matrix{Rows: rows, Cols: cols, Bits: g.Bits, GroupRows: g.GroupRows}
	out := []safetensors.Info{
		{Name: ".indices", DType: safetensors.U8, Shape: []int{rows, m.RowBytes()}},
		{Name: ".lut", DType: safetensors.F16, Shape: []int{m.Groups(), 1 << g.Bits}},
	}
	if g.RowScale {
		out = append(out, safetensors.Info{Name: ".row_scale", DType: safetensors.F16, Shape: []int{rows}})
	}
	return out
}

func (g Palette) options() palettize.Options {
	return palettize.Options{Bits: g.Bits, GroupRows: g.GroupRows, NoRowScale: !g.RowScale}
}

// Quantize is [palettize.Palettize].
func (g Palette) Quantize(pool *compute.Pool, src Source, rows, cols int, importance []float32) (Data, gptq.Report, error) {
	if err := g.Check(cols); err != nil {
		return nil, gptq.Report{}, err
	}
	opt := g.options()
	opt.Importance = importance
	m, r, err := palettize.Palettize(pool, src, rows, cols, opt)
	return paletteData(m), gptq.Report{SquaredError: r.SquaredError, SquaredNorm: r.SquaredNorm}, err
}

// Compensate is [palettize.Compensate].
func (g Palette) Compensate(pool *compute.Pool, src Source, rows, cols int, f *gptq.Factor, out *gptq.Output) (Data, gptq.Report, error) {
	m, r, err := palettize.Compensate(pool, src, rows, cols, g.options(), f, out, palettize.Compensation{})
	return paletteData(m), gptq.Report{SquaredError: r.SquaredError, SquaredNorm: r.SquaredNorm, OutputError: r.OutputError, PlainError: r.PlainError}, err
}

func paletteData(m *palettize.Matrix) Data {
	if m == nil {
		return nil
	}
	out := Data{m.Indices, putHalves(m.LUT)}
	if m.RowScale != nil {
		out = append(out, putHalves(m.RowScale))
	}
	return out
}

// Matrix returns a stored matrix in the form of package palettize.
func (g Palette) Matrix(data Data, rows, cols int) (*palettize.Matrix, error) {
	if err := checkData(g, data, rows, cols); err != nil {
		return nil, err
	}
	m := &palettize.Matrix{Rows: rows, Cols: cols, Bits: g.Bits, GroupRows: g.GroupRows, Indices: data[0], LUT: halves(data[1])}
	if g.RowScale {
		m.RowScale = halves(data[2])
	}
	return m, m.Validate()
}

// Weights has the values of [palettize.Matrix.DequantizeRows].
func (g Palette) Weights(data Data, rows, cols int) (Rows, error) {
	m, err := g.Matrix(data, rows, cols)
	return func(dst []float32, r0, r1 int) error {
		m.DequantizeRows(dst, r0, r1)
		return nil
	}, err
}

// QuantizeWork is [palettize.Work].
func (g Palette) QuantizeWork(rows, cols int) int64 { return palettize.Work(rows*cols, g.options()) }

// CompensateWork is [palettize.CompensateWork].
func (g Palette) CompensateWork(rows, cols int, full bool) int64 {
	return palettize.CompensateWork(rows, cols, g.options(), full)
}

// putHalves returns the little-endian bytes of 16-bit values.
func putHalves(v []uint16) []byte {
	out := make([]byte, 2*len(v))
	for i, x := range v {
		out[2*i], out[2*i+1] = byte(x), byte(x>>8)
	}
	return out
}

// halves is the inverse of putHalves.
func halves(b []byte) []uint16 {
	out := make([]uint16, len(b)/2)
	for i := range out {
		out[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
	}
	return out
}

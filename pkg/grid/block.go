package grid

import (
	"fmt"
	"strings"

	"afmq/pkg/compute"
	"afmq/pkg/ggml"
	"afmq/pkg/gptq"
	"afmq/pkg/safetensors"
)

// Block stores rows as blocks of a type of ggml, as GGUF files do. The values are those of ggml's
// own dequantization, bit for bit.
type Block struct {
	Type ggml.Type // one with codes
}

// String returns the type's name in lower case, such as "q4_k".
func (g Block) String() string { return strings.ToLower(g.Type.String()) }

// CodeBits returns 4 for Q4_K.
func (g Block) CodeBits() int { return bitsFor(g.Type.Codes()) }

// Check returns an error if blocks do not divide a row.
func (g Block) Check(cols int) error {
	if !g.Type.HasCodes() {
		return fmt.Errorf("%v is not a type of quantized blocks", g.Type)
	}
	return dividesColumns(g, g.Type.BlockWeights(), cols)
}

// Tensors returns the blocks: U8 [rows, bytes of a row].
func (g Block) Tensors(rows, cols int) []safetensors.Info {
	return []safetensors.Info{{Name: "." + g.String(), DType: safetensors.U8, Shape: []int{rows, g.Type.RowBytes(cols)}}}
}

// Run returns the largest part of a block of any type.
func (g Block) Run() int { return 32 }

// Quantize fits every block by itself; see [ggml.Block.Fit].
func (g Block) Quantize(pool *compute.Pool, src Source, rows, cols int, importance []float32) (Data, gptq.Report, error) {
	if err := g.Check(cols); err != nil {
		return nil, gptq.Report{}, err
	}
	data, size := allocate(g, rows, cols), g.Type.RowBytes(cols)
	report, err := eachRow(pool, g, src, rows, cols, importance, func() rowQuantizer {
		block := ggml.Block{Type: g.Type}
		n, bytes := g.Type.BlockWeights(), g.Type.BlockBytes()
		return func(got []float32, row int, w, importance []float32) {
			packed := data[0][row*size : (row+1)*size]
			for b := range cols / n {
				block.Fit(w[b*n:(b+1)*n], importance[b*n:(b+1)*n])
				block.Pack(packed[b*bytes : (b+1)*bytes])
				block.Weights(got[b*n : (b+1)*n])
			}
		}
	})
	return data, report, err
}

// Compensate fits blocks first and then chooses codes, integer scales and mins, and the factors of
// the blocks by the Hessian.
func (g Block) Compensate(pool *compute.Pool, src Source, rows, cols int, f *gptq.Factor, out *gptq.Output) (Data, gptq.Report, error) {
	return compensateRows(pool, g, src, rows, cols, f, out, func() chunk { return newBlockCodes(g.Type, f.Order()) })
}

// Weights has the values of [ggml.Type.Dequantize].
func (g Block) Weights(data Data, rows, cols int) (Rows, error) {
	if err := checkData(g, data, rows, cols); err != nil {
		return nil, err
	}
	n := g.Type.RowBytes(cols)
	return func(dst []float32, r0, r1 int) error { return g.Type.Dequantize(dst, data[0][r0*n:r1*n]) }, nil
}

// QuantizeWork is the work of the fit.
func (g Block) QuantizeWork(rows, cols int) int64 {
	return blockFitWork[g.Type] * int64(rows) * int64(cols)
}

// CompensateWork is the work of the fit, of the codes and of package gptq.
func (g Block) CompensateWork(rows, cols int, full bool) int64 {
	return g.QuantizeWork(rows, cols) + codesWork*int64(rows)*int64(cols) + gptq.RefineWork(rows, cols, full)
}

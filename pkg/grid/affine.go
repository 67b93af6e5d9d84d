package grid

import (
	"fmt"

	"afmq/pkg/compute"
	"afmq/pkg/gptq"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// Affine stores a weight as scale·q + bias with a code q and, for every group of columns of a row, a
// scale and a bias: the affine quantization of MLX (mlx.core.quantize). The value is computed in
// float32.
type Affine struct {
	Bits   int               // of a code: 2 to 6, or 8
	Group  int               // columns that share a scale and a bias: 32, 64 or 128
	Scales safetensors.DType // of scales and biases: F16 or BF16; F16 if it is not set
}

// String returns a name such as "affine4_g64".
func (g Affine) String() string { return fmt.Sprintf("affine%d_g%d", g.Bits, g.Group) }

// CodeBits returns Bits.
func (g Affine) CodeBits() int { return g.Bits }

// Run returns Group.
func (g Affine) Run() int { return g.Group }

func (g Affine) valid() error {
	if g.Bits < 2 || g.Bits > 8 || g.Bits == 7 {
		return fmt.Errorf("the affine grid has 2 to 6 or 8 bits, not %d", g.Bits)
	}
	return validGroup(g.Group)
}

func validGroup(n int) error {
	if n != 32 && n != 64 && n != 128 {
		return fmt.Errorf("groups have 32, 64 or 128 columns, not %d", n)
	}
	return nil
}

// Check returns an error if groups do not divide a row.
func (g Affine) Check(cols int) error {
	if err := g.valid(); err != nil {
		return err
	}
	return dividesColumns(g, g.Group, cols)
}

func dividesColumns(g Grid, group, cols int) error {
	if cols%group != 0 {
		return fmt.Errorf("%v needs columns that are a multiple of %d; there are %d", g, group, cols)
	}
	return nil
}

// Tensors returns the codes, U32 [rows, cols·Bits/32], and scales and biases [rows, cols/Group].
// The codes of a row are packed without gaps from the least significant bit of its first byte, as
// MLX packs them.
func (g Affine) Tensors(rows, cols int) []safetensors.Info {
	groups := []int{rows, cols / g.Group}
	return []safetensors.Info{
		{Name: "." + g.String(), DType: safetensors.U32, Shape: []int{rows, cols * g.Bits / 32}},
		{Name: ".scales", DType: scaleType(g.Scales), Shape: groups},
		{Name: ".biases", DType: scaleType(g.Scales), Shape: groups},
	}
}

// scaleType returns the type of scales; F16 where it is not set.
func scaleType(t safetensors.DType) safetensors.DType {
	if t == safetensors.BF16 {
		return t
	}
	return safetensors.F16
}

func (g Affine) scaled() scaled {
	return scaled{levels: 1 << g.Bits, group: g.Group, bias: true, half: scaleType(g.Scales)}
}

// Quantize fits scale and bias of every group to its weights.
func (g Affine) Quantize(pool *compute.Pool, src Source, rows, cols int, importance []float32) (Data, gptq.Report, error) {
	return quantizeScaled(pool, g, g.scaled(), src, rows, cols, importance, g.put)
}

// Compensate fits groups first and then chooses codes, scales and biases by the Hessian.
func (g Affine) Compensate(pool *compute.Pool, src Source, rows, cols int, f *gptq.Factor, out *gptq.Output) (Data, gptq.Report, error) {
	return compensateScaled(pool, g, g.scaled(), src, rows, cols, f, out, g.put)
}

// put stores a row.
func (g Affine) put(data Data, row int, r *scaledRow) {
	n, k := len(r.codes)*g.Bits/8, 2*len(r.groups)
	palettize.PackRow(data[0][row*n:(row+1)*n], r.codes, g.Bits)
	putGroups(data[1][row*k:], data[2][row*k:], r.groups)
}

// putGroups writes scales and biases.
func putGroups(scales, biases []byte, groups []group) {
	for i, x := range groups {
		scales[2*i], scales[2*i+1] = byte(x.scaleBits), byte(x.scaleBits>>8)
		if biases != nil {
			biases[2*i], biases[2*i+1] = byte(x.biasBits), byte(x.biasBits>>8)
		}
	}
}

// Weights has the values of mlx.core.dequantize with scales and biases in float32.
func (g Affine) Weights(data Data, rows, cols int) (Rows, error) {
	if err := checkData(g, data, rows, cols); err != nil {
		return nil, err
	}
	return scaledRows(cols, cols/g.Group, func(row int, r *scaledRow) { g.get(data, row, r) }), nil
}

// get reads a row.
func (g Affine) get(data Data, row int, r *scaledRow) {
	n, k := len(r.codes)*g.Bits/8, len(r.groups)
	palettize.UnpackRow(r.codes, data[0][row*n:(row+1)*n], g.Bits)
	getGroups(r.groups, g.Scales, data[1], row*k)
	for i, v := range widen(g.Scales, data[2], row*k, (row+1)*k) {
		r.groups[i].bias = v
	}
	packed := halves(data[2][2*row*k : 2*(row+1)*k])
	for i := range r.groups {
		r.groups[i].biasBits = packed[i]
	}
}

// getGroups reads the scales of groups, the first of which is element at of all.
func getGroups(groups []group, t safetensors.DType, scales []byte, at int) {
	values, packed := widen(t, scales, at, at+len(groups)), halves(scales[2*at:2*(at+len(groups))])
	for i := range groups {
		groups[i].scale, groups[i].scaleBits = values[i], packed[i]
	}
}

// QuantizeWork is the work of the fit.
func (g Affine) QuantizeWork(rows, cols int) int64 { return affineFitWork * int64(rows) * int64(cols) }

// CompensateWork is the work of the fit, of the codes and of package gptq.
func (g Affine) CompensateWork(rows, cols int, full bool) int64 {
	return g.QuantizeWork(rows, cols) + codesWork*int64(rows)*int64(cols) + gptq.RefineWork(rows, cols, full)
}

package grid

import (
	"fmt"
	"math"
	"strings"

	"afmq/pkg/compute"
	"afmq/pkg/ggml"
	"afmq/pkg/gptq"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// Source is the matrix to quantize, [rows, cols] in row-major order.
type Source = palettize.Source

// Data is a stored matrix: the bytes of each of its tensors, in the order of Tensors.
type Data [][]byte

// Rows computes rows r0 to r1-1 of a matrix in float32, into dst [r1-r0, cols]. It may be called
// concurrently.
type Rows func(dst []float32, r0, r1 int) error

// Grid is a way to store a weight matrix [rows, cols]: [Palette], [Affine], [Integer] or [Block].
// Rows are independent, except that rows of a palette share a table. A Grid holds no data, is
// comparable, and may be used concurrently.
type Grid interface {
	// String returns the name, such as "affine4_g64", which [Parse] reads. That of every palette
	// is "palette".
	String() string
	// CodeBits returns the bits of a stored code, without scales and tables.
	CodeBits() int
	// Check returns an error if rows of cols weights cannot be stored.
	Check(cols int) error
	// Tensors returns what stores a matrix: types and shapes, and names to append to that of the
	// weight.
	Tensors(rows, cols int) []safetensors.Info
	// Run returns how many columns a gptq.Factor for Compensate must keep together, 1 for none. A
	// multiple of it will do.
	Run() int

	// Quantize minimizes the squared error of the weights. importance [cols] is the cost of a
	// squared error in each column; if it is nil, the grid weighs as suits it. A weight that cannot
	// be stored is an error that says where it is. pool may be nil.
	Quantize(pool *compute.Pool, src Source, rows, cols int, importance []float32) (Data, gptq.Report, error)
	// Compensate stores a matrix so that the output of its module on the inputs of f changes least or,
	// with the gradients of the outputs in out, which may be nil, the model's loss. f keeps runs
	// together. Errors are those of Quantize. pool may be nil.
	Compensate(pool *compute.Pool, src Source, rows, cols int, f *gptq.Factor, out *gptq.Output) (Data, gptq.Report, error)
	// Weights returns a function that computes rows of a stored matrix. Data of other lengths than
	// those of Tensors are an error. The values of data are not checked.
	Weights(data Data, rows, cols int) (Rows, error)
	// Train returns a stored matrix in training. It has a copy of data, which must be as for Weights.
	Train(data Data, rows, cols int) (Trainable, error)

	// QuantizeWork and CompensateWork are the time of the two methods, full with a gptq.Output that is
	// full, in multiplications of a
	// matrix product that take as long.
	QuantizeWork(rows, cols int) int64
	CompensateWork(rows, cols int, full bool) int64
}

// Parse returns the grid with a name that String returns, except for palettes, whose name does not
// say everything. scales is the type of the scales of [Affine] and [Integer].
func Parse(name string, scales safetensors.DType) (Grid, bool) {
	if t, ok := ggml.ParseType(strings.ToUpper(name)); ok && t.HasCodes() {
		b := Block{t}
		return b, b.String() == name
	}
	a := Affine{Scales: scales}
	if n, err := fmt.Sscanf(name, "affine%d_g%d", &a.Bits, &a.Group); n == 2 && err == nil {
		return a, a.valid() == nil && a.String() == name
	}
	for _, zero := range []bool{false, true} {
		g := Integer{ZeroPoint: zero, Scales: scales}
		kind := g.kind()
		if n, _ := fmt.Sscanf(name, kind+"%d_g%d", &g.Bits, &g.Group); n == 0 {
			continue
		}
		return g, g.valid() == nil && g.String() == name
	}
	return nil, false
}

// The families of grids, as --grid of the command names them.
const (
	FamilyPalette   = "palette"
	FamilyGGUF      = "gguf"
	FamilyAffine    = "affine"
	FamilySymmetric = "symmetric"
)

// Families returns the families, palettes first.
func Families() []string {
	return []string{FamilyPalette, FamilyGGUF, FamilyAffine, FamilySymmetric}
}

// Family returns the family of a grid: that of the runtimes that read it.
func Family(g Grid) string {
	switch g.(type) {
	case Block:
		return FamilyGGUF
	case Affine:
		return FamilyAffine
	case Integer:
		return FamilySymmetric
	}
	return FamilyPalette
}

// ValueError is a weight that cannot be stored.
type ValueError struct {
	Row, Col int
	Value    float32
	Reason   string // "is not finite"
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("row %d, column %d: %v %s", e.Row, e.Col, e.Value, e.Reason)
}

// checkValues returns a *ValueError for the first weight of a row that is not finite, or that is
// too large for the scales of a grid.
func checkValues(g Grid, w []float32, row int) error {
	most := float32(math.MaxFloat32)
	for _, t := range g.Tensors(1, len(w)) {
		switch t.DType {
		case safetensors.F16:
			most = maxHalf
		case safetensors.BF16:
			most = 1e38 // so that no product overflows
		}
	}
	for i, v := range w {
		switch {
		case math.IsNaN(float64(v)) || math.IsInf(float64(v), 0):
			return &ValueError{row, i, v, "is not finite"}
		case v > most || v < -most:
			return &ValueError{row, i, v, "is too large for the scales"}
		}
	}
	return nil
}

// checkFactor returns an error unless f and out suit a matrix [rows, cols] on a grid.
func checkFactor(g Grid, f *gptq.Factor, out *gptq.Output, rows, cols int) error {
	if err := f.Check(out, rows, cols); err != nil {
		return err
	}
	if f.Run()%g.Run() != 0 {
		return fmt.Errorf("%v needs a Hessian with runs of %d columns; they have %d", g, g.Run(), f.Run())
	}
	return nil
}

// allocate returns zeroed data for a matrix.
func allocate(g Grid, rows, cols int) Data {
	var out Data
	for _, t := range g.Tensors(rows, cols) {
		out = append(out, make([]byte, size(t)))
	}
	return out
}

// checkData returns an error unless data has the lengths of the tensors.
func checkData(g Grid, data Data, rows, cols int) error {
	if err := g.Check(cols); err != nil {
		return err
	}
	tensors := g.Tensors(rows, cols)
	if len(data) != len(tensors) {
		return fmt.Errorf("%v: %d tensors instead of %d", g, len(data), len(tensors))
	}
	for i, t := range tensors {
		if n := size(t); len(data[i]) != n {
			return fmt.Errorf("%v: %d bytes of %s; a matrix of %d rows and %d columns has %d", g, len(data[i]), t.Name[1:], rows, cols, n)
		}
	}
	return nil
}

// size returns the bytes of a tensor.
func size(t safetensors.Info) int {
	n := t.DType.Size()
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

package gptq

import (
	"fmt"
	"math"
)

// OutputDamping is the fraction of itself that is added to each diagonal element of the second moment
// of the gradients of outputs. On a model of 11 M parameters, 0.05 to 0.3 give about the same result.
const OutputDamping = 0.1

// scarceOutputs times the ratio of outputs to tokens is added to OutputDamping, as [Damping] does for
// inputs.
const scarceOutputs = 4

// Output is the output side of the norm: the damped second moment G = Σ g·gᵀ of the gradients g of the
// model's loss with respect to a module's outputs. To second order, an error E of its weights raises the
// loss by tr(G·E·H·Eᵀ) up to a factor, where outputs and inputs are taken as independent of each other
// (Martens and Grosse, "K-FAC", 2015, arXiv:1503.05671; for rounding, Tseng et al., "YAQA", 2025,
// arXiv:2505.22988). Its diagonal has mean 1 before it is damped. It is read-only and safe for
// concurrent use.
type Output struct {
	rows   int
	diag   []float32 // [rows]
	moment []float32 // [rows, rows], or nil if only the diagonal is known
}

// NewOutput damps a second moment [rows, rows] of the gradients of so many tokens, symmetric, which it
// overwrites. One that is not finite, or whose diagonal has a negative element or mean zero, is an error:
// the gradients say nothing.
func NewOutput(moment []float32, rows, tokens int) (*Output, error) {
	if rows < 1 || len(moment) != rows*rows {
		return nil, fmt.Errorf("a second moment of %d elements for %d outputs", len(moment), rows)
	}
	diag := make([]float32, rows)
	for i := range diag {
		diag[i] = moment[i*rows+i]
	}
	o, scale, err := newOutput(diag, OutputDamping+scarceOutputs*float64(rows)/float64(max(tokens, 1)))
	if err != nil {
		return nil, err
	}
	for i, v := range moment {
		if moment[i] = v * scale; math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("the second moment of the outputs has the element %v", v)
		}
	}
	for i, v := range o.diag {
		moment[i*rows+i] = v
	}
	o.moment = moment
	return o, nil
}

// NewOutputDiagonal is NewOutput for the squares of the gradients alone, [rows], which it does not keep.
func NewOutputDiagonal(squares []float32) (*Output, error) {
	o, _, err := newOutput(squares, OutputDamping)
	return o, err
}

// newOutput damps the diagonal of a second moment, and returns the factor that the moment is to be
// multiplied by.
func newOutput(diag []float32, damping float64) (o *Output, scale float32, err error) {
	mean := 0.0
	for _, v := range diag {
		if !(v >= 0) {
			return nil, 0, fmt.Errorf("the second moment of the outputs has %v on its diagonal", v)
		}
		mean += float64(v) / float64(len(diag))
	}
	if !(mean > 0) || math.IsInf(mean, 1) {
		return nil, 0, fmt.Errorf("the second moment of the outputs has a diagonal of mean %v", mean)
	}
	scale = float32(1 / mean)
	if math.IsInf(float64(scale), 0) {
		return nil, 0, fmt.Errorf("the second moment of the outputs has a diagonal of mean %v", mean)
	}
	o = &Output{rows: len(diag), diag: make([]float32, len(diag))}
	for i, v := range diag {
		o.diag[i] = v*scale*float32(1+damping) + float32(damping*floorShare)
	}
	return o, scale, nil
}

// Full reports whether more than the diagonal is known, and how outputs act together: then the rows of
// the module are to be refined together. It is false for nil.
func (o *Output) Full() bool { return o != nil && o.moment != nil }

// Part returns the statistics of the outputs [first, end), which are weighed as before; nil for nil. If o
// is full, they must be all.
func (o *Output) Part(first, end int) *Output {
	if o == nil || first == 0 && end == o.rows {
		return o
	}
	if o.Full() {
		panic("gptq: a part of outputs that act together")
	}
	return &Output{rows: end - first, diag: o.diag[first:end]}
}

// weights returns the diagonal for some rows, or nil for 1 everywhere.
func (o *Output) weights(first, rows int) []float32 {
	if o == nil {
		return nil
	}
	return o.diag[first : first+rows]
}

// part returns the element at the given row and column and those after it, for a product with rows of
// the moment.
func (o *Output) part(row, column int) []float32 { return o.moment[row*o.rows+column:] }

// Check returns an error unless a matrix [rows, cols] has the inputs of f and the outputs of out, which
// may be nil.
func (f *Factor) Check(out *Output, rows, cols int) error {
	if cols != f.n {
		return fmt.Errorf("%d columns with a Hessian of %d", cols, f.n)
	}
	if out != nil && rows != out.rows {
		return fmt.Errorf("%d rows with the second moment of %d outputs", rows, out.rows)
	}
	return nil
}

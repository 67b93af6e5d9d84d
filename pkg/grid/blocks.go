package grid

import (
	"fmt"
	"math"

	"afmq/pkg/compute"
	"afmq/pkg/ggml"
	"afmq/pkg/gptq"
)

// Check returns an error if a row of cols weights cannot be stored in blocks of type t.
func Check(t ggml.Type, cols int) error {
	switch {
	case !t.HasCodes():
		return fmt.Errorf("%v is not a type of quantized blocks", t)
	case cols%t.BlockWeights() != 0:
		return fmt.Errorf("%v needs columns that are a multiple of %d; there are %d", t, t.BlockWeights(), cols)
	}
	return nil
}

// Rows computes the rows [r0, r1) of a matrix in float32, into dst, [r1-r0, cols].
type Rows func(dst []float32, r0, r1 int) error

// quantizeRows is the number of rows that Quantize reads at a time.
const quantizeRows = 64

// Quantize stores a matrix [rows, cols] in blocks of type t and returns their bytes, row after
// row, with the error of the weights. importance [cols] is the cost of a squared error in each
// column. If it is nil, a weight counts as much as the root of the mean square of its row and the
// square of its own, because large weights contribute more to the output of a model. A weight that
// is not finite is a *ValueError. pool may be nil.
func Quantize(pool *compute.Pool, t ggml.Type, fill Rows, rows, cols int, importance []float32) ([]byte, gptq.Report, error) {
	if err := Check(t, cols); err != nil {
		return nil, gptq.Report{}, err
	}
	size := t.RowBytes(cols)
	out := make([]byte, rows*size)
	reports := make([]gptq.Report, (rows+quantizeRows-1)/quantizeRows)
	errs := make([]error, len(reports))
	pool.Run(len(reports), func(_, i int) {
		first := i * quantizeRows
		n := min(quantizeRows, rows-first)
		reports[i], errs[i] = quantizeChunk(t, fill, first, n, cols, importance, out[first*size:(first+n)*size])
	})
	var sum gptq.Report
	for i, err := range errs {
		if err != nil {
			return nil, sum, err
		}
		sum.Add(reports[i])
	}
	return out, sum, nil
}

func quantizeChunk(t ggml.Type, fill Rows, first, rows, cols int, importance []float32, out []byte) (r gptq.Report, err error) {
	w, got, own := make([]float32, rows*cols), make([]float32, cols), make([]float32, cols)
	if err := fill(w, first, first+rows); err != nil {
		return r, err
	}
	size := t.RowBytes(cols)
	for i := range rows {
		row := w[i*cols : (i+1)*cols]
		square := 0.0
		for j, v := range row {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return r, &ValueError{first + i, j, v}
			}
			square += float64(v) * float64(v)
		}
		r.SquaredNorm += square
		weights := importance
		if weights == nil {
			for j, v := range row {
				own[j] = float32(math.Sqrt(square/float64(cols) + float64(v)*float64(v)))
			}
			weights = own
		}
		packed := out[i*size : (i+1)*size]
		if err := t.Quantize(packed, row, weights); err != nil {
			return r, err
		}
		if err := t.Dequantize(got, packed); err != nil {
			return r, err
		}
		for j, v := range row {
			d := float64(v) - float64(got[j])
			r.SquaredError += d * d
		}
	}
	return r, nil
}

// ValueError is a weight that cannot be stored.
type ValueError struct {
	Row, Col int
	Value    float32
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("row %d, column %d: %v is not finite", e.Row, e.Col, e.Value)
}

// Compensate stores w, a matrix [rows, cols], in blocks of type t so that the output of its module
// on the inputs of f changes least. f has runs of [FactorRun] columns. It returns the bytes of the blocks, row after row. pool may be
// nil.
func Compensate(pool *compute.Pool, t ggml.Type, w []float32, rows, cols int, f *gptq.Factor) ([]byte, gptq.Report, error) {
	if err := Check(t, cols); err != nil {
		return nil, gptq.Report{}, err
	}
	if cols != f.Columns() {
		return nil, gptq.Report{}, fmt.Errorf("%d columns with a Hessian of %d", cols, f.Columns())
	}
	if f.Run()%t.PartWeights() != 0 {
		return nil, gptq.Report{}, fmt.Errorf("%v needs a Hessian with runs of %d columns; they have %d", t, t.PartWeights(), f.Run())
	}
	for i, v := range w {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, gptq.Report{}, &ValueError{i / cols, i % cols, v}
		}
	}
	size := t.RowBytes(cols)
	out := make([]byte, rows*size)
	importance := f.Importance()
	per := gptq.ChunkRows(rows, 1)
	reports := make([]gptq.Report, (rows+per-1)/per)
	workers := make([]*worker, pool.Threads())
	pool.Run(len(reports), func(id, i int) {
		if workers[id] == nil {
			workers[id] = &worker{newCodes(t, f.Order()), gptq.NewRefiner(pool, f)}
		}
		wk := workers[id]
		first := i * per
		n := min(per, rows-first)
		wk.codes.load(w[first*cols:(first+n)*cols], n, importance)
		reports[i] = wk.refiner.Refine(wk.codes.weights, n, wk.codes, gptq.DefaultRounds)
		wk.codes.store(out[first*size : (first+n)*size])
	})
	var sum gptq.Report
	for _, r := range reports {
		sum.Add(r)
	}
	return out, sum, nil
}

// worker is the state of a thread.
type worker struct {
	codes   *codes
	refiner *gptq.Refiner
}

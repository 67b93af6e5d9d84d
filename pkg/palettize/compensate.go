package palettize

import (
	"afmq/pkg/compute"
	"afmq/pkg/gptq"
)

// Compensation configures [Compensate]. The zero value is the default.
type Compensation struct {
	// Rounds is the number of refinement rounds after GPTQ, each of which fits tables and
	// scales to the indices and then improves the indices; 0 for gptq.DefaultRounds, negative
	// for none.
	Rounds int
}

// CompensationReport adds the squared error of the module's output to a [Report], summed
// over the calibration tokens, with the damping of H, or what it costs with the outputs' own moment.
type CompensationReport struct {
	Report
	OutputError float64 // tr(E·H·Eᵀ) with E = W - Ŵ; with an Output G, tr(G·E·H·Eᵀ)
	PlainError  float64 // the same before compensation
}

// Compensate palettizes src, a matrix [rows, cols], to minimize the squared error of the
// module's output over the calibration tokens, whereas [Palettize] minimizes that of the
// weights. cols is the number of columns of f. The steps are:
//
//  1. Palettize, with the squared diagonal of the Cholesky factor as the importance.
//
//  2. GPTQ, and rounds that fit table entries and row scales to the indices in the norm of the
//     Hessian and then improve the indices: see package gptq.
//
//  3. With the second moment of the gradients of its outputs, out, which may be nil, rows that matter
//     more to the model's loss weigh more in tables; if out is full, rounds that refine all rows
//     together follow, so that the loss rises least and not the error of the output.
//
// In steps 1 and 2 each group keeps its best state, and in step 3 the matrix. opt.Importance is
// ignored. pool may be nil. The result does not depend on the number of threads. Errors
// are those of Palettize; sizes that differ from those of f and out are a plain error.
func Compensate(pool *compute.Pool, src Source, rows, cols int, opt Options, f *gptq.Factor, out *gptq.Output, c Compensation) (*Matrix, CompensationReport, error) {
	if err := f.Check(out, rows, cols); err != nil {
		return nil, CompensationReport{}, err
	}
	if c.Rounds == 0 {
		c.Rounds = gptq.DefaultRounds
	}
	joint := out.Full() && c.Rounds > 0
	opt.Importance = f.Importance()
	m, _, err := Palettize(pool, src, rows, cols, opt)
	if err != nil {
		return nil, CompensationReport{}, err
	}
	per := gptq.ChunkRows(rows, m.GroupRows)
	chunks := (rows + per - 1) / per
	reports := make([]gptq.Report, chunks)
	workers := make([]*refining, pool.Threads())
	kept := make([]gptq.Chunk, chunks)
	pool.Run(chunks, func(id, i int) {
		if workers[id] == nil {
			workers[id] = &refining{codes: &codes{m: m, order: f.Order()}, refiner: gptq.NewRefiner(pool, f, out)}
		}
		w := workers[id]
		if joint {
			w.codes = &codes{m: m, order: f.Order()}
		}
		w.codes.load(src, i*per, min(per, rows-i*per))
		if joint {
			kept[i] = gptq.Chunk{Weights: w.codes.weights, Rows: w.codes.rows, Codes: w.codes}
			return
		}
		reports[i] = w.refiner.Refine(w.codes.weights, i*per, w.codes.rows, w.codes, max(c.Rounds, 0))
		w.codes.store()
	})
	var sum gptq.Report
	for _, r := range reports {
		sum.Add(r)
	}
	if joint {
		sum = gptq.RefineTogether(pool, f, out, kept, gptq.FirstRounds, gptq.JointRounds)
		pool.Run(chunks, func(_, i int) { kept[i].Codes.(*codes).store() })
	}
	return m, CompensationReport{Report{sum.SquaredError, sum.SquaredNorm}, sum.OutputError, sum.PlainError}, nil
}

// refining is the state of a thread that refines chunks of a matrix.
type refining struct {
	codes   *codes
	refiner *gptq.Refiner
}

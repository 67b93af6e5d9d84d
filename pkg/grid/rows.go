package grid

import (
	"math"

	"afmq/pkg/compute"
	"afmq/pkg/gptq"
)

// rowQuantizer stores a row of weights, w [cols], and sets got [cols] to what the stored row stands
// for.
type rowQuantizer func(got []float32, row int, w, importance []float32)

// quantizeRows is the number of rows that a task of eachRow reads.
const quantizeRows = 64

// eachRow stores a matrix row by row and returns its error. newQuantizer is called once for each
// task.
func eachRow(pool *compute.Pool, g Grid, src Source, rows, cols int, importance []float32, newQuantizer func() rowQuantizer) (gptq.Report, error) {
	reports := make([]gptq.Report, (rows+quantizeRows-1)/quantizeRows)
	errs := make([]error, len(reports))
	pool.Run(len(reports), func(_, i int) {
		r0 := i * quantizeRows
		r1 := min(r0+quantizeRows, rows)
		w, got, own := make([]float32, cols), make([]float32, cols), make([]float32, cols)
		quantize := newQuantizer()
		for r := r0; r < r1; r++ {
			src.Float32(w, r*cols)
			if errs[i] = checkValues(g, w, r); errs[i] != nil {
				return
			}
			weights := importance
			square := squares(w)
			if weights == nil {
				weights = own
				magnitude(own, w, square)
			}
			quantize(got, r, w, weights)
			reports[i].SquaredNorm += square
			for j, v := range w {
				d := float64(v) - float64(got[j])
				reports[i].SquaredError += d * d
			}
		}
	})
	var sum gptq.Report
	for i, err := range errs {
		if err != nil {
			return gptq.Report{}, err
		}
		sum.Add(reports[i])
	}
	return sum, nil
}

func squares(w []float32) (sum float64) {
	for _, v := range w {
		sum += float64(v) * float64(v)
	}
	return sum
}

// magnitude sets the importance of weights without statistics of their inputs: one counts as much
// as the root of the mean square of its row and the square of its own, because large weights
// contribute more to the output of a model.
func magnitude(dst, w []float32, square float64) {
	mean := square / float64(len(w))
	for j, v := range w {
		dst[j] = float32(math.Sqrt(mean + float64(v)*float64(v)))
	}
}

// chunk holds the codes of a few rows for package gptq.
type chunk interface {
	gptq.Codes
	// load fits the parameters of a chunk to w [rows, n], which it does not keep.
	load(w []float32, rows int, importance []float32)
	// ordered returns the weights [rows, n] in the order of the factor.
	ordered() []float32
	// store writes the chunk to data, from row first on.
	store(data Data, first int)
}

// compensateRows stores a matrix whose rows are independent by package gptq. newChunk is called once
// for each thread, or for each chunk if all are refined together.
func compensateRows(pool *compute.Pool, g Grid, src Source, rows, cols int, f *gptq.Factor, out *gptq.Output, newChunk func() chunk) (Data, gptq.Report, error) {
	if err := g.Check(cols); err != nil {
		return nil, gptq.Report{}, err
	}
	if err := checkFactor(g, f, out, rows, cols); err != nil {
		return nil, gptq.Report{}, err
	}
	data := allocate(g, rows, cols)
	joint := out.Full()
	importance := f.Importance()
	per := gptq.ChunkRows(rows, 1)
	reports := make([]gptq.Report, (rows+per-1)/per)
	errs := make([]error, len(reports))
	type worker struct {
		chunk   chunk
		refiner *gptq.Refiner
		w       []float32 // [per, cols]
	}
	workers := make([]*worker, pool.Threads())
	kept := make([]gptq.Chunk, len(reports))
	pool.Run(len(reports), func(id, i int) {
		if workers[id] == nil {
			workers[id] = &worker{newChunk(), gptq.NewRefiner(pool, f, out), make([]float32, per*cols)}
		}
		wk := workers[id]
		if joint {
			wk.chunk = newChunk()
		}
		first := i * per
		n := min(per, rows-first)
		w := wk.w[:n*cols]
		src.Float32(w, first*cols)
		for r := range n {
			if errs[i] = checkValues(g, w[r*cols:(r+1)*cols], first+r); errs[i] != nil {
				return
			}
		}
		wk.chunk.load(w, n, importance)
		if joint {
			kept[i] = gptq.Chunk{Weights: wk.chunk.ordered(), Rows: n, Codes: wk.chunk}
			return
		}
		reports[i] = wk.refiner.Refine(wk.chunk.ordered(), first, n, wk.chunk, gptq.DefaultRounds)
		wk.chunk.store(data, first)
	})
	var sum gptq.Report
	for i, r := range reports {
		if errs[i] != nil {
			return nil, gptq.Report{}, errs[i]
		}
		sum.Add(r)
	}
	if joint {
		sum = gptq.RefineTogether(pool, f, out, kept, gptq.SearchRounds, gptq.JointRounds)
		pool.Run(len(kept), func(_, i int) { kept[i].Codes.(chunk).store(data, i*per) })
	}
	return data, sum, nil
}

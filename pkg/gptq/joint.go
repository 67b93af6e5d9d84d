package gptq

import (
	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// Chunk is a chunk of rows of a matrix with its codes, for [RefineTogether].
type Chunk struct {
	Weights []float32 // [rows, n] in the order of the factor
	Rows    int
	Codes   Codes // of these rows alone
}

const (
	// JointRounds is the number of rounds of RefineTogether; on models of 5 and 11 M parameters, more
	// lower its error, but not the divergence of the model.
	JointRounds = 5
	// FirstRounds is the number of rounds for each chunk for itself, before those together; with parts,
	// SearchRounds takes its place.
	FirstRounds = 1
	// jointFitSteps is the number of conjugate gradient steps of a joint fit. More do not pay.
	jointFitSteps = 2
	// jointGain is the relative decrease of the error below which the rounds end.
	jointGain = 1e-3
)

// together refines all rows of a matrix in the norm tr(G·E·H·Eᵀ), in which they act together. Slices
// are [m, n] unless stated otherwise, in the order of the factor.
type together struct {
	pool   *compute.Pool
	f      *Factor
	out    *Output
	chunks []Chunk
	first  []int // row of each chunk
	m, n   int

	errs     []float32 // E = W - Ŵ
	grad     []float32 // E·H
	product  []float32 // of the direction of a fit and H
	changes  []float32 // [m, solveBlock] of E in a block of columns
	changed  []bool    // by chunk: whether the block has any
	gradient [2][]float32
	workers  []jointWorker

	size                                          []int // parameters before each chunk, and at last of all
	residual, scaling, direction, applied, change []float64
}

// jointWorker is what a thread needs.
type jointWorker struct {
	mul  kernel.Scratch
	rows []float32 // [rows of a chunk, n]
	row  []float32 // [solveBlock]
}

// RefineTogether lowers the error tr(G·E·H·Eᵀ) of a matrix whose rows act together on the loss. The
// chunks are all its rows in their order, with codes that hold the parameters from which it starts.
//
// First [Refiner.Refine] refines each chunk for itself, with so many rounds; negative for not at all.
// Then rounds of all chunks follow: a round fits the parameters of all groups by conjugate gradients,
// and sets every code in turn to the best one given all others. The state is that of the best of these
// rounds. Where outputs depend on one another strongly, refining each chunk for itself may raise the
// error, and the rounds not lower it as far as it was.
//
// The errors of outputs in the report are tr(G·E·H·Eᵀ). The result does not depend on the number of
// threads. pool may be nil.
func RefineTogether(pool *compute.Pool, f *Factor, out *Output, chunks []Chunk, first, rounds int) Report {
	j := &together{pool: pool, f: f, out: out, chunks: chunks, n: f.n, size: []int{0}}
	for _, c := range chunks {
		j.first = append(j.first, j.m)
		j.m += c.Rows
		j.size = append(j.size, j.size[len(j.size)-1]+c.Codes.Groups()*c.Codes.Parameters())
	}
	for _, v := range []*[]float32{&j.errs, &j.grad, &j.product} {
		*v = make([]float32, j.m*j.n)
	}
	j.changes, j.changed = make([]float32, j.m*solveBlock), make([]bool, len(chunks))
	for _, v := range []*[]float64{&j.residual, &j.scaling, &j.direction, &j.applied, &j.change} {
		*v = make([]float64, j.size[len(chunks)])
	}
	j.workers = make([]jointWorker, pool.Threads())
	j.errors()
	plain := j.slope()
	if first >= 0 {
		j.refine(first)
		j.errors()
	}
	best := j.slope()
	j.keep()
	for range rounds {
		j.fit()
		j.descend()
		now := j.slope()
		if !(now < best) {
			j.restore()
			break
		}
		j.keep()
		gain := best - now
		best = now
		if gain < jointGain*best {
			break
		}
	}
	r := j.report()
	r.PlainError, r.OutputError = plain, best
	return r
}

// refine refines every chunk for itself.
func (j *together) refine(rounds int) {
	refiners := make([]*Refiner, j.pool.Threads())
	j.pool.Run(len(j.chunks), func(id, i int) {
		if refiners[id] == nil {
			refiners[id] = NewRefiner(j.pool, j.f, j.out)
		}
		c := &j.chunks[i]
		refiners[id].Refine(c.Weights, j.first[i], c.Rows, c.Codes, rounds)
	})
}

// each calls do for every chunk, on all threads.
func (j *together) each(do func(w *jointWorker, i int)) {
	j.pool.Check()
	j.pool.Run(len(j.chunks), func(id, i int) { do(&j.workers[id], i) })
}

// of returns the rows of a chunk in a matrix with n columns.
func (j *together) of(v []float32, i int) []float32 {
	return v[j.first[i]*j.n : (j.first[i]+j.chunks[i].Rows)*j.n]
}

// params returns the elements of a vector of parameters that belong to a chunk.
func (j *together) params(v []float64, i int) []float64 { return v[j.size[i]:j.size[i+1]] }

// errors computes E and E·H.
func (j *together) errors() {
	j.each(func(w *jointWorker, i int) {
		c := &j.chunks[i]
		e := j.of(j.errs, i)
		c.Codes.Errors(e, c.Weights)
		w.mul.MulTPart(c.Rows, e, j.n, j.f.hessian, 0, j.n, 0, j.n, j.of(j.grad, i), j.n, false)
	})
}

// slope returns the error, and sets residual to half its derivatives, with opposite sign, by the
// parameters.
func (j *together) slope() float64 {
	sums := make([]float64, len(j.chunks))
	j.each(func(w *jointWorker, i int) {
		g := j.applyOutput(w, j.grad, i)
		sums[i] = kernel.Dot(j.of(j.errs, i), g)
		j.chunks[i].Codes.Gather(j.params(j.residual, i), g)
	})
	total := 0.0
	for _, v := range sums {
		total += v
	}
	return total
}

// applyOutput returns the rows of a chunk of G·v, valid until the worker's next call.
func (j *together) applyOutput(w *jointWorker, v []float32, i int) []float32 {
	rows := j.chunks[i].Rows
	w.rows = grow(w.rows, rows*j.n)
	w.mul.MulNN(rows, j.n, j.m, j.out.part(j.first[i], 0), j.m, v, j.n, w.rows, j.n)
	return w.rows[:rows*j.n]
}

// fit fits all parameters to the codes: a Gauss-Newton step, whose normal equations are solved by
// preconditioned conjugate gradients. residual must be up to date. It updates errs and grad.
func (j *together) fit() {
	j.each(func(_ *jointWorker, i int) {
		c := &j.chunks[i]
		c.Codes.Curvature(j.params(j.scaling, i), j.f.hDiag, j.out.weights(j.first[i], c.Rows))
	})
	clear(j.change)
	rho := 0.0
	for i, v := range j.scaling {
		if v > 0 {
			j.scaling[i] = 1 / v // 0 for a parameter that no weight uses
		}
		j.direction[i] = j.residual[i] * j.scaling[i]
		rho += j.residual[i] * j.direction[i]
	}
	for range jointFitSteps {
		j.applyNormal()
		curvature := 0.0
		for i, d := range j.direction {
			curvature += d * j.applied[i]
		}
		if !(curvature > 0) || !(rho > 0) {
			break
		}
		alpha, after := rho/curvature, 0.0
		for i, d := range j.direction {
			j.change[i] += alpha * d
			j.residual[i] -= alpha * j.applied[i]
			after += j.residual[i] * j.residual[i] * j.scaling[i]
		}
		for i, d := range j.direction {
			j.direction[i] = j.residual[i]*j.scaling[i] + after/rho*d
		}
		rho = after
	}
	j.each(func(_ *jointWorker, i int) {
		codes, change := j.chunks[i].Codes, j.params(j.change, i)
		k := codes.Parameters()
		for g := range codes.Groups() {
			codes.Move(g, change[g*k:(g+1)*k])
		}
	})
	j.errors()
}

// applyNormal sets applied to the normal matrix times direction.
func (j *together) applyNormal() {
	j.each(func(w *jointWorker, i int) {
		c := &j.chunks[i]
		w.rows = grow(w.rows, c.Rows*j.n)
		c.Codes.Spread(w.rows[:c.Rows*j.n], j.params(j.direction, i))
		w.mul.MulTPart(c.Rows, w.rows, j.n, j.f.hessian, 0, j.n, 0, j.n, j.of(j.product, i), j.n, false)
	})
	j.each(func(w *jointWorker, i int) {
		j.chunks[i].Codes.Gather(j.params(j.applied, i), j.applyOutput(w, j.product, i))
	})
}

// descend sets every code to the best one given all others: in blocks of columns, chunk after chunk,
// row after row. With G·E·H, the best value of a weight is its present value plus that over
// G[i][i]·H[j][j]. grad is up to date before and after, but in a block only for the columns of the block.
//
// While one chunk is refined, the other threads compute the product that the next one begins with,
// except for the share of the chunk that changes meanwhile.
func (j *together) descend() {
	const part = 16 // rows of a product, of which a thread computes several
	for b := (j.n - 1) / solveBlock; b >= 0; b-- {
		b0 := b * solveBlock
		size := min(solveBlock, j.n-b0)
		for i := range j.chunks {
			j.pool.Check()
			current, next := &j.gradient[i%2], &j.gradient[(i+1)%2]
			if i == 0 {
				*current = grow(*current, j.chunks[0].Rows*size)
				j.productPart(&j.workers[0], *current, 0, 0, j.chunks[0].Rows, b0, size, -1)
			}
			tasks, rows, per := 1, 0, 0
			if i+1 < len(j.chunks) {
				rows = j.chunks[i+1].Rows
				*next = grow(*next, rows*size)
				// Few, since each packs the same columns; the result does not depend on it.
				per = max(part, (rows/min(max(j.pool.Threads(), 1), 4)+part-1)/part*part)
				tasks += (rows + per - 1) / per
			}
			j.pool.Run(tasks, func(id, task int) {
				w := &j.workers[id]
				if task == 0 {
					if i > 0 {
						before := j.first[i-1]
						w.mul.MulNNAdd(j.chunks[i].Rows, size, j.chunks[i-1].Rows, j.out.part(j.first[i], before), j.m, j.grad[before*j.n+b0:], j.n, *current, size)
					}
					j.changed[i] = j.descendChunk(w, i, b, *current)
					return
				}
				r0 := (task - 1) * per
				j.productPart(w, (*next)[r0*size:], i+1, r0, min(per, rows-r0), b0, size, i)
			})
		}
		j.each(func(w *jointWorker, i int) {
			if !j.changed[i] {
				return
			}
			rows := j.chunks[i].Rows
			d, grad := j.changes[j.first[i]*solveBlock:], j.of(j.grad, i)
			w.mul.MulTPart(rows, d, solveBlock, j.f.hessian, 0, b0, b0, size, grad, j.n, true)
			if after := b0 + size; after < j.n {
				w.mul.MulTPart(rows, d, solveBlock, j.f.hessian, after, j.n-after, b0, size, grad[after:], j.n, true)
			}
		})
	}
}

// productPart computes rows r0 to r0+rows-1 of chunk i of G·grad in a block of columns, [rows, size],
// without the share of one chunk; -1 for none.
func (j *together) productPart(w *jointWorker, dst []float32, i, r0, rows, b0, size, without int) {
	row := j.first[i] + r0
	before, after := j.m, j.m
	if without >= 0 {
		before, after = j.first[without], j.first[without]+j.chunks[without].Rows
	}
	clear(dst[:rows*size])
	if before > 0 {
		w.mul.MulNNAdd(rows, size, before, j.out.part(row, 0), j.m, j.grad[b0:], j.n, dst, size)
	}
	if after < j.m {
		w.mul.MulNNAdd(rows, size, j.m-after, j.out.part(row, after), j.m, j.grad[after*j.n+b0:], j.n, dst, size)
	}
}

// descendChunk refines the rows of a chunk in block b of the columns. g [rows, size] is that part of
// G·E·H. It updates errs, the columns of grad, and changes, and reports whether there are any.
func (j *together) descendChunk(w *jointWorker, i, b int, g []float32) (changed bool) {
	b0 := b * solveBlock
	size := min(solveBlock, j.n-b0)
	block, inverse := j.f.hBlocks[b], j.f.hDiagInverse[b0:b0+size]
	codes, first := j.chunks[i].Codes, j.first[i]
	w.row = grow(w.row, solveBlock)
	moved := w.row[:size] // the change of the row of E·H
	for r := range j.chunks[i].Rows {
		row := codes.Row(r)
		at := (first+r)*j.n + b0
		errs, change := j.errs[at:at+size], j.changes[(first+r)*solveBlock:][:size]
		gr := g[r*size : (r+1)*size]
		own := 1 / j.out.diag[first+r]
		clear(moved)
		clear(change)
		any := false
		for k := size - 1; k >= 0; k-- {
			old := row.Value(b0 + k)
			code, value := row.Nearest(b0+k, old+(gr[k]*own+moved[k])*inverse[k])
			if value == old {
				continue
			}
			row.Set(b0+k, code)
			d := old - value
			errs[k] += d
			change[k] += d
			kernel.AddScaled(moved, block[k*size:(k+1)*size], d)
			any = true
		}
		if !any {
			continue
		}
		changed = true
		kernel.AddScaled(j.grad[at:at+size], moved, 1)
		coupling := j.out.part(first+r, first)
		for q := r + 1; q < j.chunks[i].Rows; q++ {
			kernel.AddScaled(g[q*size:(q+1)*size], moved, coupling[q])
		}
	}
	return changed
}

// keep remembers the state.
func (j *together) keep() {
	j.each(func(_ *jointWorker, i int) {
		for g := range j.chunks[i].Codes.Groups() {
			j.chunks[i].Codes.Keep(g)
		}
	})
}

// restore goes back to it.
func (j *together) restore() {
	j.each(func(_ *jointWorker, i int) {
		for g := range j.chunks[i].Codes.Groups() {
			j.chunks[i].Codes.Restore(g)
		}
	})
	j.errors()
}

// report gives the squared error of the weights.
func (j *together) report() (sum Report) {
	reports := make([]Report, len(j.chunks))
	j.each(func(_ *jointWorker, i int) {
		e, w := j.of(j.errs, i), j.chunks[i].Weights[:j.chunks[i].Rows*j.n]
		reports[i] = Report{SquaredError: kernel.Dot(e, e), SquaredNorm: kernel.Dot(w, w)}
	})
	for _, r := range reports {
		sum.Add(r)
	}
	return sum
}

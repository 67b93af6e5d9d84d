package quantize

import (
	"context"
	"path/filepath"
	"time"

	"afmq/internal/kernel"
	"afmq/internal/memory"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/estimate"
	"afmq/pkg/gptq"
	"afmq/pkg/grid"
	"afmq/pkg/infer"
	"afmq/pkg/sensitivity"
	"afmq/pkg/shard"
)

// Estimate predicts what [Run] takes, from a few seconds of measurements. It writes nothing. Errors
// are those of Run before it computes anything. Where Run is to choose widths, the size of the artifact
// is that of the largest choice, and the time that of a mean one.
func Estimate(ctx context.Context, opts Options) (*estimate.Estimate, error) {
	return estimateRun(ctx, opts, shard.Shard{})
}

// EstimateShard is [Estimate] for [RunShard]: the time, without that of waiting for other shards, and
// the files of this shard.
func EstimateShard(ctx context.Context, opts Options, sh shard.Shard) (*estimate.Estimate, error) {
	if err := checkShard(&opts, sh); err != nil {
		return nil, err
	}
	return estimateRun(ctx, opts, sh)
}

func estimateRun(ctx context.Context, opts Options, sh shard.Shard) (*estimate.Estimate, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if !sh.Divided() {
		if err := stage.CheckTarget(opts.Out, false); err != nil {
			return nil, err
		}
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	src, err := artifact.OpenSource(ctx, opts.Model)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	r := &setup{opts: opts, src: src}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	return r.estimate(ctx, pool.With(compute.F32), sh)
}

// estimator predicts a run.
type estimator struct {
	*setup
	shard shard.Shard
	pool  *compute.Pool
	probe *infer.Rates
	// Seconds for each unit of gptq.FactorWork and gptq.SolveWork.
	factor, solve float64
	quantize      map[string]float64 // seconds for each unit of grid.Grid.QuantizeWork, by grid
	compensate    map[string]float64 // the same of CompensateWork
}

func (r *setup) estimate(ctx context.Context, pool *compute.Pool, sh shard.Shard) (*estimate.Estimate, error) {
	began := time.Now()
	e := &estimate.Estimate{}
	scoring := r.opts.scoring()
	// The artifact's directory may exist, or be that of a job in shards.
	scoring.Out, scoring.Pool, scoring.Source, scoring.Text = filepath.Join(r.opts.Out, "scores"), pool, r.src, r.text
	var err error
	if r.opts.backward() {
		outputs := scoring
		outputs.Method = sensitivity.Fisher
		if e, err = sensitivity.EstimateOutputs(ctx, outputs, !r.opts.scoresOutputs()); err != nil {
			return nil, err
		}
		e.ScratchBytes += e.OutputBytes
		e.OutputBytes = 0
	}
	if r.widths == nil && !r.opts.scoresOutputs() {
		scored, err := sensitivity.Estimate(ctx, scoring)
		if err != nil {
			return nil, err
		}
		e.Join(scored)
	}
	e.SetMachine(r.opts.Memory, filepath.Dir(r.opts.Out))
	stream, err := infer.OpenStream(r.opts.Model, infer.OpenOptions{Pool: pool})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	m := &estimator{setup: r, shard: sh, pool: pool, quantize: map[string]float64{}, compensate: map[string]float64{}}
	length := 1
	if r.text != nil {
		length = max(r.text.Record.SeqLen, 1)
	}
	if m.probe, err = stream.Measure(ctx, pool, pool.With(r.opts.Compute), length); err != nil {
		return nil, err
	}
	if (sh.Divided() || r.stats != nil) && !r.opts.backward() {
		e.Add(artifact.StageHash, m.probe.Hash*float64(r.src.Checkpoint.Bytes()))
	}
	jobs, err := m.jobs()
	if err != nil {
		return nil, err
	}
	seconds := 0.0
	for _, j := range jobs {
		s, err := m.seconds(ctx, j)
		if err != nil {
			return nil, err
		}
		seconds += s / float64(len(jobs))
		e.OutputBytes = max(e.OutputBytes, j.needBytes())
		e.PeakBytes = max(e.PeakBytes, m.peak(j, e))
	}
	e.Add(StageQuantize, seconds)
	e.Measured = time.Since(began).Seconds()
	return e, nil
}

// jobs returns the job or, if the widths are yet to be chosen, one for each width of all modules.
func (m *estimator) jobs() (jobs []*job, err error) {
	if m.widths != nil {
		if err = m.newJob(); err != nil {
			return nil, err
		}
		if m.shard.Divided() && !m.opts.walks() {
			err = m.job.share(m.shard)
		}
		return []*job{m.job}, err
	}
	add := func(widths map[string]sensitivity.Width, err error) error {
		if err != nil {
			return err
		}
		j, err := newJob(m.src, m.opts, m.text, widths, nil)
		jobs = append(jobs, j)
		return err
	}
	for _, bits := range m.opts.Request.Bits {
		widths, err := sensitivity.Widths(m.src.Config, bits, m.opts.Overrides)
		for name, w := range widths {
			if w.Form == artifact.RowInt8 && m.opts.Request.Target.Of == sensitivity.OfModel {
				widths[name] = sensitivity.Width{Form: artifact.Palette, Bits: max(bits, 4)} // which takes longer
			}
		}
		if err := add(widths, err); err != nil {
			return nil, err
		}
	}
	for _, form := range m.opts.Request.Forms {
		widths, _, err := sensitivity.FormWidths(m.src.Config, form, m.opts.Overrides)
		if err := add(widths, err); err != nil {
			return nil, err
		}
	}
	return jobs, nil
}

// seconds returns the time of a job.
func (m *estimator) seconds(ctx context.Context, j *job) (total float64, err error) {
	cfg, p := m.src.Config, m.probe
	for i := range j.items {
		it := &j.items[i]
		t, err := m.item(ctx, j, it)
		if err != nil {
			return 0, err
		}
		bytes := it.sourceBytes()
		for _, o := range it.outs {
			n, err := o.Bytes()
			if err != nil {
				return 0, err
			}
			bytes += n
		}
		total += t + p.Hash*float64(bytes)
	}
	if j.opts.walks() {
		// Both models run; gate and up run once more when the text moves on.
		d, f := float64(cfg.HiddenSize), float64(cfg.IntermediateSize)
		weights := float64((&infer.Model{Config: cfg}).LayerWork())
		total += 2 * float64(cfg.Layers) * float64(j.text.Tokens()) * p.Forward * (1 + 2*d*f/weights)
	}
	return total, nil
}

// item returns the time of one tensor, without that of running the text to it.
func (m *estimator) item(ctx context.Context, j *job, it *item) (total float64, err error) {
	if len(it.Spec.Shape) != 2 {
		return 0, nil
	}
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	weights := float64(rows) * float64(cols)
	g, ok := j.grid(it)
	if !ok {
		return weights * denseWork * m.probe.Product, nil
	}
	if !j.opts.compensates() || it.Spec.Layer < 0 && !j.src.Config.TieEmbeddings {
		rate, ok := m.quantize[gridKey(g)]
		if !ok {
			if rate, err = sensitivity.MeasureGrid(ctx, m.pool, g, it.Tensor); err != nil {
				return 0, err
			}
			m.quantize[gridKey(g)] = rate
		}
		return rate * float64(g.QuantizeWork(rows, cols)), nil
	}
	full := j.joint(it)
	rate, err := m.measureCompensation(ctx, g, it, full)
	if err != nil {
		return 0, err
	}
	total = rate * float64(g.CompensateWork(rows, cols, full))
	if j.opts.walks() {
		total += m.solve * float64(gptq.SolveWork(rows, cols))
		if m.shard.Divided() && !full { // by rows
			total /= float64(m.shard.Count)
		}
	}
	if it.firstOfInput() {
		total += m.factor * float64(gptq.FactorWork(cols))
		if j.opts.walks() {
			n, tokens := float64(cols), float64(j.text.Tokens())
			total += 3 * tokens * n * n * m.probe.Gram // a second moment, and a product of twice its work
			if residual(j.src.Config, it.Spec) {
				total += 2 * tokens * float64(rows) * n * m.probe.Gram
			}
		}
	}
	return total, nil
}

// gridKey names a grid and the width of its codes.
func gridKey(g grid.Grid) string { return g.String() + string(rune('0'+g.CodeBits())) }

// Compensation is measured on matrices of probeColumns columns, and at most mostProbeRows rows, whose
// outputs have a moment of rank probeMoment beside its diagonal.
const (
	probeColumns  = 1024
	mostProbeRows = 1792
	probeMoment   = 64
)

// measureCompensation returns the seconds for each unit of the work of compensating errors on a grid,
// which it measures once for each.
func (m *estimator) measureCompensation(ctx context.Context, g grid.Grid, it *item, full bool) (float64, error) {
	key := gridKey(g)
	if full {
		key += "full"
	}
	if rate, ok := m.compensate[key]; ok {
		return rate, nil
	}
	n := min(probeColumns, it.Spec.Shape[1])
	rows := min(112*max(2, m.pool.Threads()), mostProbeRows)
	x := estimate.RandomFloats(max(4*n*n, rows*n, probeMoment*rows))
	h := make([]float32, n*n)
	m.pool.AddGram(h, x[:4*n*n], 4*n, n)
	kernel.Symmetrize(h, n)
	var f *gptq.Factor
	t, err := estimate.Time(ctx, func() (err error) {
		f, err = gptq.NewFactor(m.pool, append([]float32(nil), h...), n, gptq.DefaultDamping, max(g.Run(), 1))
		return err
	})
	if err != nil {
		return 0, err
	}
	var out *gptq.Output
	if full {
		moment := make([]float32, rows*rows)
		m.pool.AddGram(moment, x[:probeMoment*rows], probeMoment, rows)
		kernel.Symmetrize(moment, rows)
		for i := range rows {
			moment[i*rows+i] += probeMoment
		}
		if out, err = gptq.NewOutput(moment, rows, 2*rows); err != nil {
			return 0, err
		}
	}
	m.factor = t / float64(gptq.FactorWork(n))
	w := x[:rows*n]
	if t, err = estimate.Time(ctx, func() error {
		f.Solve(m.pool, append([]float32(nil), w...), rows)
		return nil
	}); err != nil {
		return 0, err
	}
	m.solve = t / float64(gptq.SolveWork(rows, n))
	t, err = estimate.Time(ctx, func() error {
		_, _, err := g.Compensate(m.pool, grid.Source{F32: w}, rows, n, f, out)
		return err
	})
	m.compensate[key] = t / float64(g.CompensateWork(rows, n, full))
	return m.compensate[key], err
}

// peak returns the memory of a job, and adds its hidden states to the scratch files.
func (m *estimator) peak(j *job, e *estimate.Estimate) int64 {
	// The heap grows before it is collected: by as much as is in use, up to slack.
	const base, slack = 30 << 20, 512 << 20
	copying := int64(0) // tensors on their way to the file
	for i := range j.items {
		copying = max(copying, 3*j.items[i].sourceBytes())
	}
	working := int64(0)
	if j.opts.compensates() {
		working = j.workingBytes()
	}
	if j.opts.walks() {
		cfg := m.src.Config
		q, kv := int64(cfg.Heads*cfg.HeadDim), int64(cfg.KVHeads*cfg.HeadDim)
		states := 2 * 4 * int64(j.text.Tokens()) * (int64(cfg.HiddenSize) + q)
		onHeap := min(states, j.stateMemory())
		e.ScratchBytes = max(e.ScratchBytes, states-onHeap)
		batch := int64(min(j.text.Tokens(), infer.BatchTokens))
		activations := 2 * 4 * batch * 2 * (int64(cfg.HiddenSize) + q + kv + int64(cfg.IntermediateSize))
		working += onHeap + activations
	}
	working = max(working, copying)
	return base + min(working+min(working, slack), max(working, int64(0.85*float64(memory.Budget(j.opts.Memory)))))
}

package sensitivity

import (
	"context"
	"path/filepath"
	"time"

	"afmq/internal/memory"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/estimate"
	"afmq/pkg/grid"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
	"afmq/pkg/shard"
)

// Estimate predicts what [Score] takes, from a few seconds of measurements. It writes nothing. Errors
// are those of Score before it computes anything.
func Estimate(ctx context.Context, opts Options) (*estimate.Estimate, error) {
	if err := opts.Check(); err != nil {
		return nil, err
	}
	if err := stage.CheckTarget(opts.Out, true); err != nil && opts.Out != "" {
		return nil, err
	}
	j, done, err := openJob(opts)
	if err != nil {
		return nil, err
	}
	defer done()
	return j.estimate(ctx, nil, 1)
}

// EstimateShard is [Estimate] for [ScoreShard].
func EstimateShard(ctx context.Context, opts Options, sh shard.Shard) (*estimate.Estimate, error) {
	if err := checkShard(&opts, sh); err != nil {
		return nil, err
	}
	if opts.Method == Fisher || opts.Method == "" {
		return EstimateStats(ctx, StatsOptions{Options: opts, Shard: sh, command: commandScores})
	}
	j, done, err := openJob(opts)
	if err != nil {
		return nil, err
	}
	defer done()
	return j.estimate(ctx, nil, 1/float64(sh.Count))
}

// EstimateStats is [Estimate] for [CollectStats].
func EstimateStats(ctx context.Context, opts StatsOptions) (*estimate.Estimate, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	if !opts.Shard.Divided() {
		if err := stage.CheckTarget(opts.Out, false); err != nil {
			return nil, err
		}
	}
	j := &statsJob{scoreJob: scoreJob{opts: opts.Options, pool: pool.With(compute.F32)}, shard: opts.Shard, command: opts.command, unscored: opts.unscored}
	defer j.close()
	if err := j.open(); err != nil {
		return nil, err
	}
	if err := j.divide(); err != nil {
		return nil, err
	}
	return j.estimate(ctx, j, 1)
}

// EstimateOutputs is [Estimate] for [CollectOutputs].
func EstimateOutputs(ctx context.Context, opts Options, unscored bool) (*estimate.Estimate, error) {
	return EstimateStats(ctx, StatsOptions{Options: opts, command: commandOutputs, unscored: unscored})
}

// MeasureGrid returns the seconds for each unit of grid.Grid.QuantizeWork, measured on some rows of a
// matrix [rows, cols].
func MeasureGrid(ctx context.Context, pool *compute.Pool, g grid.Grid, t *safetensors.Tensor) (float64, error) {
	rows, cols := t.Shape[0], t.Shape[1]
	some := min(rows, 64*pool.Threads())
	var seconds float64
	err := safetensors.Guard(t.Path(), func() error {
		src, err := artifact.PaletteSource(t)
		if err != nil {
			return err
		}
		src = src.Part(0, some*cols)
		seconds, err = estimate.Time(ctx, func() error {
			_, _, err := g.Quantize(pool, src, some, cols, nil)
			return err
		})
		return err
	})
	t.Release()
	return seconds / float64(max(g.QuantizeWork(some, cols), 1)), err
}

// estimate predicts a job that quantizes a share of the modules; stats is nil for scores.
func (j *scoreJob) estimate(ctx context.Context, stats *statsJob, share float64) (e *estimate.Estimate, err error) {
	defer compute.Recover(&err)
	began := time.Now()
	s, err := j.newScorer(ctx)
	if err != nil {
		return nil, err
	}
	defer s.closeText()
	e = &estimate.Estimate{}
	dir := filepath.Dir(j.opts.Out)
	e.SetMachine(j.opts.Memory, dir)
	quantize := 0.0 // seconds for all modules under all options
	for o := range s.widths {
		if stats != nil && stats.unscored {
			break
		}
		seconds, err := s.measureOption(ctx, o)
		if err != nil {
			return nil, err
		}
		quantize += share * seconds
	}
	ends, err := s.measureEnds(ctx)
	if err != nil {
		return nil, err
	}
	quantize += share * ends
	if stats != nil {
		s.runLeaves(stats.from, stats.to)
	}
	if e.OutputBytes, err = j.scoresBytes(s); err != nil {
		return nil, err
	}
	if s.stream == nil { // by the weights alone
		if j.opts.Out != "" || j.opts.Journal != nil {
			e.Add(artifact.StageHash, 0)
		}
		e.Add(StageScore, quantize)
		e.PeakBytes = baseBytes + s.largestModule()*4
		e.Measured = time.Since(began).Seconds()
		return e, nil
	}
	p, err := s.stream.Measure(ctx, s.pool, s.models, max(j.text.Record.SeqLen, 1))
	if err != nil {
		return nil, err
	}
	if (j.opts.Out != "" || j.opts.Journal != nil) && j.opts.Digest == "" {
		e.Add(artifact.StageHash, p.Hash*float64(j.ckpt.Bytes()))
	}
	s.addStages(e, p, quantize, share, stats)
	s.addMemory(e, stats)
	if stats != nil {
		e.OutputBytes = stats.needBytes()
	}
	e.Measured = time.Since(began).Seconds()
	return e, nil
}

// scoresBytes returns about the size of the file of scores.
func (j *scoreJob) scoresBytes(s *scorer) (int64, error) {
	costs := s.noCosts()
	for i := range costs {
		for o := range costs[i] {
			costs[i][o] = 1.0 / 3000 // of as many digits as most have
		}
	}
	scores, err := j.scores(s, costs)
	if err != nil {
		return 0, err
	}
	data, err := scores.Encode()
	return int64(len(data)), err
}

// measureOption returns the seconds to quantize all modules under an option, measured on the modules
// of the first layer.
func (s *scorer) measureOption(ctx context.Context, option int) (total float64, err error) {
	rates := map[string]float64{}
	for i := range s.modules {
		m := &s.modules[i]
		if m.end {
			continue
		}
		g, ok := s.grid(m, s.width(m, option))
		if !ok {
			continue
		}
		rate, ok := rates[m.spec.Kind]
		if !ok {
			if rate, err = MeasureGrid(ctx, s.pool, g, m.src); err != nil {
				return 0, err
			}
			rates[m.spec.Kind] = rate
		}
		total += rate * float64(s.widthWork(m, option))
	}
	return total, nil
}

// measureEnds returns the seconds to quantize embedding and head under all options.
func (s *scorer) measureEnds(ctx context.Context) (total float64, err error) {
	for i := range s.modules {
		m := &s.modules[i]
		if !m.end {
			continue
		}
		for o := range s.ends {
			g, ok := s.grid(m, s.width(m, o))
			if !ok {
				continue
			}
			rate, err := MeasureGrid(ctx, s.pool, g, m.src)
			if err != nil {
				return 0, err
			}
			total += rate * float64(s.widthWork(m, o))
		}
	}
	return total, nil
}

func (s *scorer) largestModule() (n int64) {
	for i := range s.modules {
		n = max(n, s.modules[i].weights())
	}
	return n
}

// layerWeights returns the weights of a layer.
func (s *scorer) layerWeights() (n int64) {
	for _, i := range (&fisherEstimator{scorer: s}).layerModules(0) {
		n += s.modules[i].weights()
	}
	return n
}

// addStages adds the stages that compute.
func (s *scorer) addStages(e *estimate.Estimate, p *infer.Rates, quantize, share float64, stats *statsJob) {
	layers, tokens, options := float64(s.cfg.Layers), float64(s.tokens()), float64(len(s.widths))
	load := layers * p.Load * float64(s.stream.LayerBytes()) // one pass over the weights
	forward := load + 2*p.Load*float64(s.stream.EndBytes()) + tokens*layers*p.Forward
	switch s.method {
	case Fisher:
		samples := float64(s.samples)
		e.Add(StageReference, forward+tokens*samples*p.Sample)
		groups := float64(len((&fisherEstimator{scorer: s}).optionGroups((&fisherEstimator{scorer: s}).layerModules(0))))
		products := options
		if stats != nil && stats.unscored {
			groups, products = 1, 0
		}
		if s.models.Arithmetic() != s.pool.Arithmetic() {
			products++
		}
		pass := groups*p.Back + products*p.Product*float64(s.layerWeights())
		score := quantize + groups*load + tokens*samples*layers*pass
		for i := range s.modules {
			if m := &s.modules[i]; m.end {
				score += tokens * p.Product * float64(s.endWork(m, len(s.ends)))
			}
		}
		if stats != nil && !stats.scoresOnly() {
			for _, i := range (&fisherEstimator{scorer: s}).layerModules(0) {
				spec := s.modules[i].spec
				if firstOfGroup(spec.Kind) && stats.inputs() {
					score += layers * tokens * p.Gram * float64(spec.Shape[1]) * float64(spec.Shape[1])
				}
				if FullOutput(spec) {
					score += layers * tokens * samples * p.Gram * float64(spec.Shape[0]) * float64(spec.Shape[0])
				}
			}
		}
		e.Add(OutputStage(stats != nil && stats.unscored), score)
	case KL:
		e.Add(StageReference, forward)
		e.Add(StageScore, quantize+share*s.divergenceSeconds(p, load))
	case Hessian:
		work := int64(0)
		h := &hessianEstimator{scorer: s}
		for i := range s.modules {
			work += h.tokenWork(&s.modules[i])
		}
		e.Add(StageScore, forward+quantize+share*tokens*float64(work)*p.Product)
	}
	if s.validated > 0 {
		e.Add(StageReference, forward)
		e.Add(StageValidate, (quantize+s.divergenceSeconds(p, load))*float64(min(s.validated, len(s.modules)))/float64(len(s.modules)))
	}
}

// divergenceSeconds returns the time to measure the divergence of every module under every option,
// but not that of quantizing it.
func (s *scorer) divergenceSeconds(p *infer.Rates, load float64) (total float64) {
	layers, tokens := s.cfg.Layers, float64(s.tokens())
	for i := range s.modules {
		m := &s.modules[i]
		rest := float64(layers - max(m.spec.Layer, 0))
		if m.end && !looksUp(m) {
			rest = 0
		}
		total += float64(len(s.options(m))) * (rest*(tokens*p.Forward+load/float64(layers)) + 2*tokens*p.Logits)
	}
	return total
}

// Resident memory of the process: baseBytes without data, and slack times what is in use, since the
// heap grows before it is collected.
const (
	baseBytes = 30 << 20
	slack     = 1.5
)

// addMemory sets the memory and the scratch files.
func (s *scorer) addMemory(e *estimate.Estimate, stats *statsJob) {
	d := int64(s.cfg.HiddenSize)
	hidden := 4 * s.tokens() * d
	states := 4 * hidden // kl: two walks, a fork, and the final states
	if s.method == Fisher {
		states = hidden * int64(s.cfg.Layers+s.samples+1)
	}
	onHeap := min(states, s.states.Limit())
	e.ScratchBytes = states - onHeap
	batch := int64(0) // tokens of the largest one
	for _, r := range s.runs {
		batch = max(batch, int64(r.count)*int64(max(s.text.Record.SeqLen, 1)))
	}
	activations := batch * s.model.LayerBackBytes()
	layer := s.stream.LayerBytes()
	packed := int64(0)
	f := &fisherEstimator{scorer: s}
	modules := f.layerModules(0)
	for _, options := range f.optionGroups(modules) {
		group := int64(0)
		for _, o := range options {
			for _, i := range modules {
				group += s.packedBytes(&s.modules[i], o)
			}
		}
		packed = max(packed, group)
	}
	working := 2*layer + packed + activations
	if stats != nil && !stats.scoresOnly() {
		depth := int64(1)
		for 1<<depth < stats.to-stats.from {
			depth++
		}
		for _, i := range modules {
			spec := s.modules[i].spec
			if n := int64(spec.Shape[1]); firstOfGroup(spec.Kind) && stats.inputs() {
				working += 4*n*n + depth*2*n*n
			}
			if m := int64(spec.Shape[0]); FullOutput(spec) {
				working += 4*m*m + depth*2*m*m
			}
		}
	}
	ends := 2 * s.stream.EndBytes() // mapped and packed
	heap := int64(slack * float64(onHeap+max(working, ends)))
	e.PeakBytes = baseBytes + min(heap, max(onHeap+working, int64(0.85*float64(memory.Budget(s.memory)))))
}

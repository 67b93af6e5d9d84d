package recovery

import (
	"context"
	"path/filepath"
	"strconv"
	"time"

	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/compute"
	"afmq/pkg/estimate"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// Estimate predicts what [Run] takes. It reads the models and the text, makes a training step, and
// writes nothing. Errors are those of Run before it computes anything; of Torchrun, whose speed it
// does not know, fault.Usage.
func Estimate(ctx context.Context, opts Options) (e *estimate.Estimate, err error) {
	defer compute.Recover(&err)
	began := time.Now()
	if err := opts.check(); err != nil {
		return nil, err
	}
	if opts.Torchrun != nil {
		return nil, fault.Usagef("an estimate is of this program's own steps, not of those of torchrun")
	}
	if err := stage.CheckTarget(opts.Out, false); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	opts.Progress = progress.Silent
	r := &run{pool: pool, opts: &opts}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	e = &estimate.Estimate{}
	e.Add(infer.StageLoad, time.Since(began).Seconds()) // with the digests and the text
	t := newTrainer(pool.WithContext(ctx), &opts, r.data, r.base, r.teacher, r.students)
	if err := t.predict(ctx, e, r.from != nil); err != nil {
		return nil, err
	}
	for _, s := range r.students { // the best and the last state
		e.OutputBytes += 2 * int64(len(s.weights)*opts.stored().Size())
	}
	e.OutputBytes += t.steps * int64(len(r.students)) * 150 // metrics.jsonl
	const slack = 1.6                                       // the heap grows before it is collected
	e.PeakBytes = int64(slack * float64(rss.Peak()+t.factorBytes()))
	e.SetMachine(0, filepath.Dir(opts.Out))
	e.Measured = time.Since(began).Seconds()
	return e, nil
}

// EstimateTune predicts what [Tune] takes, as [Estimate] does for Run.
func EstimateTune(ctx context.Context, opts TuneOptions) (e *estimate.Estimate, err error) {
	defer compute.Recover(&err)
	began := time.Now()
	opts.Progress = progress.Silent
	o, err := opts.options()
	if err != nil {
		return nil, err
	}
	if err := stage.CheckTarget(o.Out, false); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(o.Pool, o.Threads)
	defer done()
	r, err := openTuneRun(ctx, pool, &o, opts.Numbers)
	if err != nil {
		return nil, err
	}
	defer r.artifact.Close()
	e = &estimate.Estimate{}
	e.Add(infer.StageLoad, time.Since(began).Seconds())
	t := r.trainer(ctx)
	r.stored.pack(pool, r.stored.weights, safetensors.F32)
	if err := t.predictSteps(ctx, e, 0); err != nil {
		return nil, err
	}
	e.OutputBytes = r.artifact.File.Bytes() + t.steps*150 // with metrics.jsonl
	const slack = 1.6                                     // as in Estimate
	e.PeakBytes = int64(slack * float64(rss.Peak()))
	e.SetMachine(0, filepath.Dir(o.Out))
	e.Measured = time.Since(began).Seconds()
	return e, nil
}

// predict adds the stages of a run that starts from a copied adapter or from an init.
func (t *trainer) predict(ctx context.Context, e *estimate.Estimate, copied bool) error {
	product, err := t.productSeconds(ctx)
	if err != nil {
		return err
	}
	text := t.initText()
	svd := !copied && t.opts.Init == InitSVD
	if svd {
		one, err := estimate.Time(ctx, func() error {
			_, err := t.outputMoments(ctx, text[:1])
			return err
		})
		if err != nil {
			return err
		}
		e.Add(StageGradients, one*float64(len(text)))
		if t.opts.RankAllocation == RanksByLoss {
			e.Add(StageGradients, one*float64(len(text)))
		}
	}
	z := &initializer{pool: t.pool, base: t.base, opts: t.opts, students: t.adapters}
	if copied {
		z.opts = &Options{Init: InitZero}
	}
	tokens := int64(0)
	for _, s := range text {
		tokens += int64(len(s))
	}
	z.walkWork = tokens * t.base.LayerWork()
	init := product * float64(z.totalWork(tokens, true))
	if t.opts.RankAllocation == RanksByLoss {
		e.Add(StageAllocate, init)
	}
	e.Add(StageInit, init)
	for _, s := range t.adapters {
		for i := range s.parts {
			s.zeroInit(i, t.opts.Seed)
		}
		s.pack(t.pool, s.weights, safetensors.F32)
	}
	return t.predictSteps(ctx, e, product)
}

// predictSteps adds the stages from the first evaluation on, with students that are packed. product is
// the time of a multiplication where students have factors.
func (t *trainer) predictSteps(ctx context.Context, e *estimate.Estimate, product float64) error {
	evaluation, err := t.evaluationSeconds(ctx)
	if err != nil {
		return err
	}
	validation, test := float64(targets(t.data.validation)), float64(targets(t.data.test))
	models := float64(len(t.students))
	e.Add(StageBefore, evaluation*validation*(1+models))
	step, err := t.stepSeconds(ctx, product)
	if err != nil {
		return err
	}
	e.Add(StageTrain, step*float64(t.steps)+evaluation*validation*models*float64(t.evaluationsAfter(0)))
	e.Add(StageTest, evaluation*test*(1+models))
	return nil
}

// productSeconds returns the seconds for each multiplication of a product in float32.
func (t *trainer) productSeconds(ctx context.Context) (float64, error) {
	d := t.base.Config.HiddenSize
	const rows = 512
	w, x, y := compute.PackF32(rows, d, estimate.RandomFloats(rows*d)), estimate.RandomFloats(rows*d), make([]float32, rows*rows)
	s, err := estimate.Time(ctx, func() error {
		t.whole.MulT(y, x, rows, w)
		return nil
	})
	return s / float64(rows*rows) / float64(d), err
}

// measuredTokens is the number of tokens on which the speed is measured, or one sequence.
const measuredTokens = 1024

// evaluationSeconds returns the time to evaluate one model on a held-out token; that of the teacher,
// which runs once beside several, counts as if it ran beside each.
func (t *trainer) evaluationSeconds(ctx context.Context) (float64, error) {
	some := t.data.validation[:max(1, min(len(t.data.validation), measuredTokens/t.opts.SeqLen))]
	s, err := estimate.Time(ctx, func() error {
		_, err := t.measure(ctx, some, t.detach)
		return err
	})
	return s / float64(targets(some)), err
}

// stepSeconds returns the time of a step of all students.
func (t *trainer) stepSeconds(ctx context.Context, product float64) (float64, error) {
	all := t.sequences
	t.sequences = max(1, min(all, measuredTokens/t.opts.SeqLen))
	defer func() { t.sequences = all }()
	var losses []float64
	s, err := estimate.Time(ctx, func() (err error) {
		losses, err = t.gradients()
		return err
	})
	if err != nil {
		return 0, err
	}
	s *= float64(all) / float64(t.sequences)
	steps := t.Step
	update, err := estimate.Time(ctx, func() error { return t.update(losses) })
	t.Step = steps
	if err != nil {
		return 0, err
	}
	whiten := 0.0
	for _, st := range t.adapters {
		for i := range st.parts {
			if in := st.parts[i].spec.Shape[1]; in <= widestWhole {
				whiten += product * 2 * float64(st.parts[i].rank) * float64(in) * float64(in)
			}
		}
	}
	return s + update + whiten, nil
}

// factorBytes returns the memory of the Cholesky factors of all inputs, which training keeps, and of
// what the init of one module takes.
func (t *trainer) factorBytes() (n int64) {
	seen := map[string]bool{}
	widest := int64(0)
	for i := range t.adapters[0].parts {
		p := &t.adapters[0].parts[i]
		in, out := int64(p.spec.Shape[1]), int64(p.spec.Shape[0])
		widest = max(widest, in*in, out*out, in*out)
		key := model.InputGroup(p.spec.Kind)[0] + strconv.Itoa(p.spec.Layer)
		if !seen[key] && in <= widestWhole {
			seen[key] = true
			n += 4 * in * in
		}
	}
	return n + 4*4*widest
}

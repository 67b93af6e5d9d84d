package recovery

import (
	"context"
	"errors"
	"slices"
	"time"

	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/model"
)

// Run trains the adapters that opts describe, one for each rank, and writes them to opts.Out,
// which appears only when all of it is complete. See the package comment for its guarantees.
//
// Errors that a caller can act on are *fault.Error: of kind Usage for options that contradict
// each other or the model, Input for an artifact, teacher, adapter or data file that cannot
// be used and for the saved state of another job, Output for a directory that cannot be
// written. A training run that diverges is an error of kind Unexpected, which names the
// state that was kept. When ctx is cancelled Run saves its state and returns ctx.Err().
func Run(ctx context.Context, opts Options) (*Result, error) {
	began := time.Now()
	if err := opts.check(); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	if opts.Torchrun != nil {
		if err := checkPython(ctx, opts.Torchrun.Python, opts.Progress); err != nil {
			return nil, err
		}
	}
	r := &run{pool: pool, opts: &opts}
	t, resumed, err := r.start(ctx)
	if err != nil {
		return nil, err
	}
	res, err := r.train(ctx, t, resumed)
	var refused *workerRefused
	if errors.As(err, &refused) {
		t.dir.Keep()
		return nil, refused.error
	}
	if err = t.dir.End(err); err != nil {
		return nil, err
	}
	res.Seconds = time.Since(began).Seconds()
	res.PeakRSSBytes = rss.Peak()
	return res, nil
}

// start reads the input, and the state of an interrupted run.
func (r *run) start(ctx context.Context) (t *trainer, resumed bool, err error) {
	opts := r.opts
	if err := r.open(ctx); err != nil {
		return nil, false, err
	}
	if r.job, err = r.identity(); err != nil {
		return nil, false, err
	}
	dir, err := stage.Open(opts.Out, r.job, stage.Options{NeedBytes: r.needBytes(), Restart: opts.Restart, Names: jobNames})
	if err != nil {
		return nil, false, err
	}
	t = newTrainer(r.pool.WithContext(ctx), opts, r.data, r.base, r.teacher, r.students)
	t.dir = dir
	if opts.RankAllocation == RanksByLoss {
		ranks, err := r.allocate(ctx, t)
		if err != nil {
			dir.Keep() // as of restore
			return nil, false, err
		}
		r.setRanks(ranks)
		t = newTrainer(r.pool.WithContext(ctx), opts, r.data, r.base, r.teacher, r.students)
		t.dir, t.Ranks = dir, ranks
	}
	if resumed, err = t.restore(); err != nil {
		dir.Keep() // the state may be of use; only --restart discards it
		return nil, false, err
	}
	if resumed {
		t.noticeResumed()
	}
	return t, resumed, nil
}

// run holds what a run has read.
type run struct {
	pool          *compute.Pool
	opts          *Options
	manifest      *artifact.Manifest
	teacherDigest string
	base, teacher *infer.Model
	from          *adapter.Adapter
	configs       []*adapter.Config
	data          *corpus
	students      []*student
	tunes         bool         // the artifact itself, not adapters
	read          func() error // reads what else is read of the artifact, before it is hashed; nil for nothing
	job           []byte       // the identity
	passages      []string     // of the text that this run trains on
}

// open reads and checks all input of the run.
func (r *run) open(ctx context.Context) (err error) {
	o := r.opts
	if r.manifest, err = artifact.ReadManifest(o.Artifact); err != nil {
		return err
	}
	cfg, err := model.LoadConfig(o.Artifact)
	if err != nil {
		return err
	}
	if err := o.sequence(cfg.MaxPositions); err != nil {
		return err
	}
	if err := o.checkShares(cfg.VocabSize); err != nil {
		return err
	}
	if err := o.checkFamily(o.Artifact, cfg); err != nil {
		return err
	}
	if o.From == "" && !r.tunes {
		if r.configs, err = o.configs(cfg); err != nil {
			return err
		}
	}
	if err := r.openTeacher(ctx, cfg); err != nil {
		return err
	}
	// CheckTensors hashes the tensors below.
	if r.base, err = infer.Open(ctx, o.Artifact, infer.OpenOptions{SkipVerify: true, Share: r.teacher, Pool: r.pool, Progress: o.Progress}); err != nil {
		return err
	}
	if r.read != nil {
		if err := r.read(); err != nil {
			return err
		}
	}
	// The adapter names its base by the content hash of the manifest, which must be true.
	if err := artifact.CheckTensors(ctx, r.pool, o.Artifact, artifact.ManifestFile, r.manifest.Tensors, o.Progress); err != nil {
		return err
	}
	if o.From != "" {
		if r.from, err = adapter.Open(o.From, o.Artifact, cfg, o.AllowUnbound); err != nil {
			return err
		}
		r.configs = []*adapter.Config{&r.from.Config}
		o.Ranks = []int{r.from.Config.Rank}
	}
	if r.data, err = readData(ctx, r.pool, o, r.base.Tokenizer, r.base.Config, r.known()); err != nil {
		return err
	}
	for _, c := range r.configs {
		r.students = append(r.students, newStudent(r.pool, r.base.Config, c))
	}
	return nil
}

// known returns a function that counts the passages of a text that the artifact was tuned on or the
// adapter to start from was trained on, and, if the artifact itself is tuned, that it was calibrated
// on; nil without any.
func (r *run) known() func(ids []int32) int {
	var passages []string
	for _, t := range r.manifest.Tuning {
		passages = append(passages, t.Passages...)
	}
	if c := r.manifest.Calibration; r.tunes && c != nil {
		passages = append(passages, c.Passages...)
	}
	if r.from != nil {
		passages = append(passages, r.from.Passages...)
	}
	if passages == nil {
		return nil
	}
	return artifact.PassageCounter(passages)
}

// needBytes returns the disk space that the adapters and the saved state take.
func (r *run) needBytes() int64 {
	const slack = 1 << 20 // headers, metrics and plots
	n := int64(slack)
	for _, s := range r.students {
		n += int64(len(s.weights)) * 4 * (2 + 2*4)
	}
	if r.opts.Torchrun != nil {
		n += r.jobBytes()
	}
	return n
}

// begin initializes the adapters, or what else than a saved state training needs.
func (r *run) begin(ctx context.Context, t *trainer, resumed bool) (err error) {
	defer compute.Recover(&err)
	if err := t.initialize(ctx, r.from, !resumed); err != nil {
		return err
	}
	if !resumed {
		if err := t.prepare(ctx); err != nil {
			return err
		}
		if err := t.save(); err != nil {
			return err
		}
	}
	r.passages = adapter.MergePassages(artifact.Passages(t.trainedOn()))
	return nil
}

// makeSteps makes the remaining steps, here or in a worker.
func (r *run) makeSteps(ctx context.Context, t *trainer) error {
	if r.opts.Torchrun != nil && t.Step < t.steps {
		return r.torchrun(ctx, t)
	}
	return t.run(ctx)
}

// train makes the remaining steps and writes the results.
func (r *run) train(ctx context.Context, t *trainer, resumed bool) (res *Result, err error) {
	defer compute.Recover(&err)
	if err := r.begin(ctx, t, resumed); err != nil {
		return nil, err
	}
	res = &Result{ResumedSteps: t.Step, Warnings: r.data.warnings}
	began := time.Now()
	if err := r.makeSteps(ctx, t); err != nil {
		var bad *diverged
		if errors.As(err, &bad) {
			return nil, errors.Join(err, r.rescue(t))
		}
		return nil, err
	}
	if d := time.Since(began).Seconds(); d > 0 {
		res.TokensPerSecond = float64(len(r.students)) * float64(t.tokens(t.steps-res.ResumedSteps)) / d
	}
	test, err := t.test(ctx)
	if err != nil {
		return nil, err
	}
	res.Record = Record{Schema: Schema, Job: r.job, Made: t.Made, Steps: t.steps, StepTokens: t.stepTokens(), TrainTokens: r.data.trainTokens(), ValidationTokens: t.Base.Tokens, TestTokens: test[0].Tokens, ExcludedTokens: r.data.excluded, Notes: t.notes()}
	res.Warnings = append(slices.Clone(res.Warnings), res.Notes...)
	for i := range r.students {
		a, err := r.write(t, i, test)
		if err != nil {
			return nil, err
		}
		res.Adapters = append(res.Adapters, *a)
	}
	return res, r.writeRecord(t, &res.Record)
}

package recovery

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// Numbers is a kind of numbers that an artifact stores.
type Numbers string

const (
	Tables    Numbers = "tables"    // entries of look-up tables
	Scales    Numbers = "scales"    // scales of rows and groups, biases of groups, factors of blocks
	Norms     Numbers = "norms"     // weights of norms, and biases of projections
	Embedding Numbers = "embedding" // all numbers of embedding and head
	Indices   Numbers = "indices"   // which entry or level each weight of a projection has
)

// AllNumbers returns all kinds, in the order in which they are recorded.
func AllNumbers() []Numbers { return []Numbers{Tables, Scales, Norms, Embedding, Indices} }

// DefaultNumbers returns what [Tune] trains by default: all but Indices, which take memory for every
// weight of the model and did not lower the divergence where that was tried (docs/tune.md).
func DefaultNumbers() []Numbers { return []Numbers{Tables, Scales, Norms, Embedding} }

func has(what []Numbers, n Numbers) bool { return slices.Contains(what, n) }

// Defaults of [TuneOptions].
const (
	DefaultTuneRate        = 3e-3
	DefaultTuneBatchTokens = 2048
)

// TuneOptions are the settings of [Tune]. Artifact, Teacher, Out and Data are required; the zero value
// of every other field is its default. A field without a comment means what it means in [Options].
type TuneOptions struct {
	Artifact string // directory of the artifact to tune
	Teacher  string // directory of the 16-bit checkpoint that it was made from
	Out      string // directory of the tuned artifact; it must not exist, or be empty
	Data     []string

	Numbers []Numbers // to train; nil for DefaultNumbers

	Loss        Loss
	Mix         float64
	Temperature float64

	Tokens      int64   // to train on; 0 for DefaultTokens
	SeqLen      int     //
	BatchTokens int     // tokens in a step; 0 for DefaultTuneBatchTokens, or SeqLen where that is more
	Rate        float64 // peak learning rate: about the relative change of a number in a step; 0 for DefaultTuneRate
	Warmup      float64
	Clip        float64
	Seed        int64 // of the order of the text, and of what is held out
	Validation  int
	Recompute   bool

	Compute compute.Arithmetic

	Restart     bool
	Pool        *compute.Pool
	Threads     int
	Progress    progress.Reporter
	ToolVersion string // empty for "unknown"
}

// options checks the options and returns those of the trainer, with all defaults that need no model.
func (o *TuneOptions) options() (Options, error) {
	t := Options{
		Artifact: o.Artifact, Teacher: o.Teacher, Out: o.Out, Data: o.Data, Init: InitZero, InitTokens: 1, // none: its own text is all that it reads
		Loss: o.Loss, Mix: o.Mix, Temperature: o.Temperature,
		Tokens: o.Tokens, SeqLen: o.SeqLen, BatchTokens: o.BatchTokens, Rate: o.Rate, Warmup: o.Warmup, Clip: o.Clip,
		Seed: o.Seed, Validation: o.Validation, Recompute: o.Recompute, Compute: o.Compute, Restart: o.Restart,
		Pool: o.Pool, Threads: o.Threads, ToolVersion: o.ToolVersion,
	}
	if o.Numbers == nil {
		o.Numbers = DefaultNumbers()
	}
	for i, n := range o.Numbers {
		if !slices.Contains(AllNumbers(), n) || slices.Contains(o.Numbers[:i], n) {
			return t, fault.Usagef("numbers %s: expected some of %s, each once", joinNumbers(o.Numbers), joinNumbers(AllNumbers()))
		}
	}
	if len(o.Numbers) == 0 {
		return t, fault.Usagef("no numbers to train; choose some of %s", joinNumbers(AllNumbers()))
	}
	// In one order, so that equal choices are equal jobs.
	chosen := o.Numbers
	o.Numbers = slices.DeleteFunc(AllNumbers(), func(n Numbers) bool { return !has(chosen, n) })
	if o.Teacher == "" {
		return t, fault.Usagef("no teacher")
	}
	setDefault(&t.Rate, DefaultTuneRate)
	setDefault(&t.ToolVersion, "unknown")
	if t.BatchTokens == 0 {
		t.BatchTokens = max(DefaultTuneBatchTokens, t.SeqLen)
	}
	t.Progress = progress.Begin(o.Progress, o.Stages()...)
	err := t.checkAll()
	return t, err
}

func joinNumbers(numbers []Numbers) string {
	var names []string
	for _, n := range numbers {
		names = append(names, string(n))
	}
	return strings.Join(names, ", ")
}

// Tune trains the numbers that an artifact stores, so that its predictions approach those of the 16-bit
// model it was made from, and writes an artifact of the same format and size to opts.Out. Text, loss and
// guarantees are those of [Run]: see the package comment. The stored artifact is that of the step that
// is best on the validation text, which may be the one before the first.
//
// Errors are those of Run.
func Tune(ctx context.Context, opts TuneOptions) (*TuneResult, error) {
	began := time.Now()
	o, err := opts.options()
	if err != nil {
		return nil, err
	}
	pool, done := compute.Workers(o.Pool, o.Threads)
	defer done()
	r, err := openTuneRun(ctx, pool, &o, opts.Numbers)
	if err != nil {
		return nil, err
	}
	defer r.artifact.Close()
	dir, err := stage.Open(o.Out, r.job, stage.Options{NeedBytes: r.needBytes(), Restart: o.Restart, Names: tuneNames})
	if err != nil {
		return nil, err
	}
	t := r.trainer(ctx)
	t.dir = dir
	resumed, err := t.restore()
	if err != nil {
		dir.Keep() // the state may be of use; only --restart discards it
		return nil, err
	}
	if resumed {
		t.noticeResumed()
	}
	res, err := r.tune(ctx, t, resumed)
	if err != nil && t.saved > 0 {
		dir.Keep() // whatever the error is, hours of training are not lost
		return nil, err
	}
	if err = dir.End(err); err != nil {
		return nil, err
	}
	res.Seconds, res.PeakRSSBytes = time.Since(began).Seconds(), rss.Peak()
	return res, nil
}

// CheckTune checks everything that [Tune] checks of its options and text, for an artifact that is yet
// to be made of opts.Teacher; opts.Artifact is ignored. It writes nothing.
func CheckTune(ctx context.Context, opts TuneOptions) error {
	opts.Artifact, opts.Progress = opts.Teacher, progress.Silent
	o, err := opts.options()
	if err != nil {
		return err
	}
	cfg, err := model.LoadConfig(o.Teacher)
	if err != nil {
		return err
	}
	if err := o.sequence(cfg.MaxPositions); err != nil {
		return err
	}
	t, err := model.OpenTokenizer(o.Teacher, cfg)
	if err != nil {
		return err
	}
	pool, done := compute.Workers(o.Pool, o.Threads)
	defer done()
	_, err = readData(ctx, pool, &o, t, cfg, nil)
	return err
}

// tuneRun is a run that trains the artifact.
type tuneRun struct {
	run
	numbers  []Numbers
	artifact *artifact.Reader
	stored   *stored
	// companions are the files of the artifact beside its weights, read before training so that a
	// change meanwhile costs nothing.
	companions []companion
}

type companion struct {
	name string
	data []byte
}

// openTuneRun reads and checks all input.
func openTuneRun(ctx context.Context, pool *compute.Pool, o *Options, numbers []Numbers) (*tuneRun, error) {
	r := &tuneRun{run: run{pool: pool, opts: o, tunes: true}, numbers: numbers}
	return r, r.openTuned(ctx)
}

// trainer returns the trainer of the artifact's numbers.
func (r *tuneRun) trainer(ctx context.Context) *trainer {
	return newTrainerOf(r.pool.WithContext(ctx), r.opts, r.data, r.base, r.teacher, []learner{r.stored})
}

func (r *tuneRun) openTuned(ctx context.Context) (err error) {
	r.read = func() (err error) {
		if r.artifact, err = artifact.Open(r.opts.Artifact); err != nil {
			return err
		}
		return safetensors.Guard(r.artifact.File.Path(), func() (err error) {
			r.stored, err = newStored(r.pool, r.base, r.artifact, r.numbers)
			return err
		})
	}
	if err = r.open(ctx); err == nil {
		err = r.readCompanions()
	}
	if err == nil {
		r.job, err = r.tuneIdentity()
	}
	if err != nil && r.artifact != nil {
		r.artifact.Close()
	}
	return err
}

// readCompanions reads the files that go into the tuned artifact unchanged.
func (r *tuneRun) readCompanions() error {
	for _, f := range r.manifest.Files {
		if f.Name == artifact.WeightsFile || artifact.IsTuningFile(f.Name) {
			continue
		}
		err := artifact.CopyFile(r.artifact.Dir, f, func(name string, data []byte) error {
			r.companions = append(r.companions, companion{name, data})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// needBytes returns the disk space of the artifact and the saved state.
func (r *tuneRun) needBytes() int64 {
	const slack = 1 << 20 // tokenizer, manifest and metrics
	const copies = 2      // of the saved state, of which the next one is written beside the last
	return r.artifact.File.Bytes() + copies*4*4*int64(len(r.stored.weights)) + slack
}

// tune makes the remaining steps and writes the results.
func (r *tuneRun) tune(ctx context.Context, t *trainer, resumed bool) (res *TuneResult, err error) {
	defer compute.Recover(&err)
	if !resumed {
		r.stored.pack(t.pool, r.stored.weights, 0)
		if err := t.prepare(ctx); err != nil {
			return nil, err
		}
		if err := t.save(); err != nil {
			return nil, err
		}
	}
	r.passages = artifact.Passages(t.trainedOn())
	res = &TuneResult{ResumedSteps: t.Step, Warnings: r.data.warnings}
	began := time.Now()
	if err := t.run(ctx); err != nil {
		return nil, err
	}
	if d := time.Since(began).Seconds(); d > 0 {
		res.TokensPerSecond = float64(t.tokens(t.steps-res.ResumedSteps)) / d
	}
	test, err := t.test(ctx)
	if err != nil {
		return nil, err
	}
	best := t.Best[0]
	res.TuneRecord = TuneRecord{
		Schema: TuneSchema, Job: r.job, Made: t.Made, Numbers: r.numbers, Values: int64(len(r.stored.weights)),
		Tokens: t.tokens(t.steps), Step: best.Step, Steps: t.steps, StepTokens: t.stepTokens(),
		TrainTokens: r.data.trainTokens(), ValidationTokens: t.Base.Tokens, TestTokens: test[0].Tokens, ExcludedTokens: r.data.excluded,
		Validation: figures(t.Base, best.Score, t.Teacher), Test: figures(test[0], test[1], test[len(test)-1]),
	}
	if best.Step == 0 {
		res.Warnings = append(slices.Clone(res.Warnings), "no step is better on the validation text than the artifact as it was, which is what was written; a lower --rate, or more text, may help")
	}
	return res, r.writeTuned(ctx, t, res)
}

// tuneVersion changes whenever the same job would give other bytes.
const tuneVersion = "tune/v1"

// tuneNames are the flags that set the keys of the identity, and the inputs of the others.
var tuneNames = append([]stage.Name{{Key: "numbers", Words: "--what"}}, jobNames...)

// tuneIdentity is run.identity.
func (r *tuneRun) tuneIdentity() ([]byte, error) {
	job, err := r.commonIdentity(tuneVersion)
	if err != nil {
		return nil, err
	}
	job["numbers"] = r.numbers
	return json.Marshal(job)
}

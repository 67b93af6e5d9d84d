package recovery

import (
	"context"
	"slices"
	"time"

	"afmq/internal/stage"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
)

const (
	// tapeMemory is the limit of the intermediate results that a step keeps, in bytes; a
	// step that needs more is divided into parts whose gradients are added.
	tapeMemory = 1 << 30
	// evaluations is the largest number of evaluations on the validation text.
	evaluations = 20
	// A run saves its state after this share of its steps or after this time, whichever
	// comes first.
	saveShare = 0.02
	saveEvery = 30 * time.Second
	// After a save that took longer than slowSave, it first trains for saveCost times as long.
	slowSave = 500 * time.Millisecond
	saveCost = 20
)

// trainer trains the adapters of all ranks side by side: in each step they see the same
// sequences, through which the teacher runs once.
type trainer struct {
	pool     *compute.Pool // ends with the context of the run
	whole    *compute.Pool // the same workers, without a context
	opts     *Options
	data     *corpus
	base     *infer.Model // the trainer's own view, to which the students are attached in turn
	original *infer.Model // what base is a view of
	students []learner
	adapters []*student // the students, where they are adapters
	loss     objective

	runner  *infer.Runner
	teacher *infer.Runner // nil without one
	head    *head
	tape    *infer.Tape
	batch   batchBuffers
	grad    []float32

	steps     int64
	sequences int // in a step
	part      int // sequences per forward pass
	evalEvery int64

	trainingState         // with the students' values, what a saved state holds
	validation    float64 // the last value on the validation text, for the progress line
	saved         int64   // the step of the last saved state
	savedAt       time.Time
	saveTime      time.Duration // that the last save took
	dir           *stage.Dir
}

// trainingState is the progress of a run apart from the students' values.
type trainingState struct {
	Step    int64    `json:"step"` // completed
	Best    []best   `json:"best"` // of each student
	Base    score    `json:"base"` // of the artifact without an adapter, on the validation text
	Teacher score    `json:"teacher"`
	Initial []score  `json:"initial"` // of each student before its first step
	Made    []Made   `json:"made,omitempty"`
	Ranks   [][]int  `json:"ranks,omitempty"` // of each student's modules, where they were allocated
	metrics []Metric // of all steps made
	kept    int      // metrics that the journal has
}

// best is the state of a student with the lowest value on the validation text.
type best struct {
	Step    int64 `json:"step"`
	Score   score `json:"score"`
	weights []float32
}

// newTrainer returns a trainer of adapters.
func newTrainer(pool *compute.Pool, o *Options, data *corpus, base, teacher *infer.Model, adapters []*student) *trainer {
	var students []learner
	for _, s := range adapters {
		students = append(students, s)
	}
	t := newTrainerOf(pool, o, data, base, teacher, students)
	t.adapters = adapters
	return t
}

func newTrainerOf(pool *compute.Pool, o *Options, data *corpus, base, teacher *infer.Model, students []learner) *trainer {
	own := *base
	own.Blocks = slices.Clone(base.Blocks)
	t := &trainer{pool: pool, whole: pool.WithContext(context.Background()), opts: o, data: data, base: &own, original: base, students: students, loss: o.objective()}
	t.runner = own.NewRunner(pool.With(o.Compute))
	if teacher != nil {
		t.teacher = teacher.NewRunner(pool.With(o.Compute))
	}
	t.head = newHead(pool, t.runner, t.teacher)
	t.sequences = max(o.BatchTokens/o.SeqLen, 1)
	t.steps = max(1, (o.Tokens+int64(t.stepTokens())-1)/int64(t.stepTokens()))
	perSequence := base.TapeBytes() * int64(o.SeqLen)
	// The same parts with and without recomputing, so that gradients are the same sums.
	t.part = min(t.sequences, int(max(tapeMemory/perSequence, 1)))
	t.tape = infer.NewTape(infer.TapeOptions{Recompute: o.Recompute || perSequence > 2*tapeMemory})
	// An evaluation must not take longer than the training since the last one.
	validation := 0
	for _, s := range data.validation {
		validation += len(s) - 1
	}
	t.evalEvery = max((t.steps+evaluations-1)/evaluations, int64(4*validation/t.stepTokens()))
	t.Best = make([]best, len(students))
	t.reportPasses()
	return t
}

// detach makes the base the model as it was opened.
func (t *trainer) detach() {
	copy(t.base.Blocks, t.original.Blocks)
	t.base.Embedding, t.base.Head, t.base.FinalNorm = t.original.Embedding, t.original.Head, t.original.FinalNorm
}

func (t *trainer) stepTokens() int { return t.sequences * t.opts.SeqLen }

// tokens returns how many tokens each student was trained on after some steps.
func (t *trainer) tokens(steps int64) int64 { return steps * int64(t.stepTokens()) }

// initialize computes the Cholesky factors of the inputs and, with fill, the initial values
// of all adapters.
func (t *trainer) initialize(ctx context.Context, from *adapter.Adapter, fill bool) error {
	z := &initializer{pool: t.pool, base: t.base, opts: t.opts, from: from, students: t.adapters}
	if fill && from == nil && t.opts.Init != InitZero {
		z.teacher = t.teacher.Model()
	}
	text := t.initText()
	if z.teacher != nil && t.opts.Init == InitSVD {
		var err error
		if z.outputs, err = t.outputMoments(ctx, text); err != nil {
			return err
		}
	}
	return z.run(ctx, text, fill)
}

// trainedOn returns the sequences that the run trains on, or that its init uses, each once;
// where a sequence is shorter than a passage, all training documents.
func (t *trainer) trainedOn() (text [][]int32) {
	if t.opts.SeqLen < artifact.PassageTokens {
		return t.data.train
	}
	n := max(t.steps*int64(t.sequences), int64(t.opts.InitTokens/t.opts.SeqLen))
	for i := range min(n, t.data.perEpoch()) {
		text = append(text, t.data.sequence(i))
	}
	return text
}

// initText returns the sequences whose moments the init uses: the first of the run.
func (t *trainer) initText() (text [][]int32) {
	n := max(t.opts.InitTokens/t.opts.SeqLen, 1)
	for i := range n {
		text = append(text, t.data.sequence(int64(i))[:t.opts.SeqLen])
	}
	return text
}

package recovery

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"afmq/internal/stage"
	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

const (
	// tapeMemory is how many bytes of intermediate results a step keeps at once; a
	// longer one is cut into parts whose gradients add up.
	tapeMemory = 1 << 30
	// evaluations is how often the held-out text is looked at, at most.
	evaluations = 20
	// A run saves its state after this share of its steps or this time, whichever is
	// first.
	saveShare = 0.02
	saveEvery = 30 * time.Second
)

// trainer trains the adapters of all ranks side by side: each step they see the same
// sequences, through which the teacher is run once.
type trainer struct {
	pool     *compute.Pool
	opts     *Options
	data     *Data
	base     *infer.Model // the trainer's own view, into which adapters are put in turn
	students []*student
	loss     objective

	runner  *infer.Runner
	teacher *infer.Runner // nil without one
	head    *head
	tape    *infer.Tape
	batch   batchRoom
	grad    []float32

	steps     int64
	sequences int // in a step
	part      int // sequences run at once
	evalEvery int64

	standing         // with the students' numbers, what a saved state holds
	held     float64 // the last value on held-out text, for those who watch
	saved    int64   // the step of the last saved state
	savedAt  time.Time
	dir      *stage.Dir
}

// standing is how far a run has come, apart from the students' numbers.
type standing struct {
	Step    int64    `json:"step"` // steps made
	Best    []best   `json:"best"` // of each student
	Base    score    `json:"base"` // of the artifact without an adapter, on the held-out text
	Teacher score    `json:"teacher"`
	Initial []score  `json:"initial"` // of each student before its first step
	metrics []Metric // of all steps made
	kept    int      // metrics that the journal has
}

// best is the state of a student that did best on the held-out text.
type best struct {
	Step    int64 `json:"step"`
	Score   score `json:"score"`
	weights []float32
}

// Metric is one line of metrics.jsonl: a step of training, or a look at the held-out
// text after it. It holds nothing that differs from run to run.
type Metric struct {
	Step         int64    `json:"step"`
	Tokens       int64    `json:"tokens"` // trained on so far
	Rank         int      `json:"rank"`
	Loss         *float64 `json:"loss,omitempty"`          // mean of the step's tokens
	Rate         float64  `json:"rate,omitempty"`          // learning rate
	GradientNorm float64  `json:"gradient_norm,omitempty"` // before clipping
	KL           *float64 `json:"validation_kl,omitempty"`
	Perplexity   *float64 `json:"validation_perplexity,omitempty"`
}

// batchRoom holds the caches of a batch and its hidden states in the teacher.
type batchRoom struct {
	student, teacher []*infer.Cache
	hidden           []float32
	targets          []int32
}

func newTrainer(pool *compute.Pool, o *Options, data *Data, base, teacher *infer.Model, students []*student) *trainer {
	own := *base
	own.Blocks = slices.Clone(base.Blocks)
	t := &trainer{pool: pool, opts: o, data: data, base: &own, students: students, loss: o.objective()}
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
	// Looking at the held-out text must not take longer than the training between.
	held := 0
	for _, s := range data.Validation {
		held += len(s) - 1
	}
	t.evalEvery = max((t.steps+evaluations-1)/evaluations, int64(4*held/t.stepTokens()))
	t.Best = make([]best, len(students))
	return t
}

func (t *trainer) stepTokens() int { return t.sequences * t.opts.SeqLen }

// tokens returns how many tokens each student was trained on after some steps.
func (t *trainer) tokens(steps int64) int64 { return steps * int64(t.stepTokens()) }

// initialize finds the roots of the inputs, and, unless they come from a saved state, the
// first values of all adapters.
func (t *trainer) initialize(ctx context.Context, from *adapter.Adapter, fill bool) error {
	z := &initializer{pool: t.pool, base: t.base, opts: t.opts, from: from, students: t.students}
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

// momentMemory is how many bytes the second moments at all outputs may take; beyond it
// only their diagonals are kept.
const momentMemory = 1 << 30

// outputMoments returns the second moments of the gradients at the output of every module
// that is adapted, of the nats of tokens that the base itself would write.
func (t *trainer) outputMoments(ctx context.Context, text [][]int32) (map[place]*moments, error) {
	parts := t.students[0].parts
	bytes, widest := 0, 0
	for _, p := range parts {
		bytes += 4 * p.spec.Shape[0] * p.spec.Shape[0]
		widest = max(widest, p.spec.Shape[0])
	}
	sums := map[place]*moments{}
	for _, p := range parts {
		sums[p.place()] = newMoments(p.spec.Shape[0], bytes <= momentMemory && widest <= widestRoot)
	}
	uninstall(t.base)
	progress := t.opts.Progress
	progress.Stage("looking at gradients", int64(len(text)*t.opts.SeqLen), "tokens")
	defer progress.Done()
	for i, s := range text {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rng := rand.New(rand.NewPCG(uint64(t.opts.Seed), 1<<34+uint64(i)))
		batch := []infer.Segment{{Cache: t.base.NewCache(len(s)), Tokens: s}}
		hidden := slices.Clone(t.runner.ForwardTape(batch, t.tape))
		grad := make([]float32, len(hidden))
		t.runner.SampledGradient(grad, hidden, len(s), rng)
		t.runner.Backward(batch, t.tape, grad, func(p infer.Projected) {
			if m := sums[place{p.Layer, p.Kind}]; m != nil {
				m.add(t.pool, p.G, p.N)
			}
		})
		progress.Advance(int64(len(s)))
	}
	return sums, nil
}

// prepare looks at the held-out text with the base and with the adapters' first values.
func (t *trainer) prepare(ctx context.Context) error {
	uninstall(t.base)
	scores, err := t.validate(ctx, func() {})
	if err != nil {
		return err
	}
	t.Base, t.Teacher = scores[0], scores[len(scores)-1]
	return t.look(ctx)
}

// initText returns the sequences that the init looks at: the first of the run.
func (t *trainer) initText() (text [][]int32) {
	n := max(t.opts.InitTokens/t.opts.SeqLen, 1)
	for i := range n {
		text = append(text, t.data.Sequence(int64(i))[:t.opts.SeqLen])
	}
	return text
}

// run makes the steps that are left.
func (t *trainer) run(ctx context.Context) error {
	for _, s := range t.students {
		s.pack(t.pool, safetensors.F32)
	}
	p := t.opts.Progress
	p.Stage("training", t.tokens(t.steps-t.Step), "tokens")
	defer p.Done()
	t.savedAt = time.Now()
	for t.Step < t.steps {
		if err := ctx.Err(); err != nil {
			return t.stop(err)
		}
		if err := t.step(); err != nil {
			return err
		}
		p.Advance(int64(t.stepTokens()))
		if t.Step%t.evalEvery == 0 || t.Step == t.steps {
			if err := t.look(ctx); err != nil {
				return err
			}
		}
		due := float64(t.Step-t.saved) >= saveShare*float64(t.steps) || time.Since(t.savedAt) >= saveEvery
		if due || t.Step == t.steps {
			if err := t.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// stop saves the state before a cancelled run ends.
func (t *trainer) stop(cause error) error {
	if t.Step > t.saved {
		if err := t.save(); err != nil {
			return err
		}
	}
	return cause
}

// step trains every student on the next sequences.
func (t *trainer) step() error {
	losses := make([]float64, len(t.students))
	for _, s := range t.students {
		clear(s.grads)
	}
	first := t.Step * int64(t.sequences)
	for at := 0; at < t.sequences; at += t.part {
		var sequences [][]int32
		for i := at; i < min(at+t.part, t.sequences); i++ {
			sequences = append(sequences, t.data.Sequence(first+int64(i)))
		}
		teacher := t.teach(sequences, t.loss.kl > 0)
		for k, s := range t.students {
			s.attach(t.base)
			batch := t.segments(t.base, &t.batch.student, sequences)
			hidden := t.runner.ForwardTape(batch, t.tape)
			if cap(t.grad) < len(hidden) {
				t.grad = make([]float32, len(hidden))
			}
			grad := t.grad[:len(hidden)]
			losses[k] += t.head.gradient(t.loss, grad, hidden, teacher, t.batch.targets)
			t.runner.Backward(batch, t.tape, grad, s.visitor)
		}
	}
	n, step := float64(t.stepTokens()), t.Step+1
	rate := rateAt(step, t.steps, t.opts.Rate, t.opts.Warmup)
	for k, s := range t.students {
		s.whiten(t.pool)
		loss, norm := losses[k]/n, gradientNorm(t.pool, s.grads)/n
		if !finite(loss) || !finite(norm) {
			return t.notFinite(step, s, fmt.Sprintf("the loss is %v and its gradient's norm %v", loss, norm))
		}
		scale := 1 / n
		if clip := t.opts.Clip; clip > 0 && norm > clip {
			scale *= clip / norm
		}
		s.adamW(t.pool, step, rate, t.opts.WeightDecay, scale)
		s.pack(t.pool, safetensors.F32)
		t.metrics = append(t.metrics, Metric{Step: step, Tokens: t.tokens(step), Rank: s.config.Rank, Loss: &loss, Rate: rate, GradientNorm: norm})
	}
	t.Step = step
	t.opts.Progress.Status(fmt.Sprintf("loss %.5f, held out %.5f", losses[len(losses)-1]/n, t.held))
	return nil
}

// notFinite says that training left the numbers.
type notFinite struct{ text string }

func (e *notFinite) Error() string { return e.text }

func (t *trainer) notFinite(step int64, s *student, what string) error {
	name, _ := adapterDir(s.config.Rank)
	return &notFinite{fmt.Sprintf("step %d, rank %d: %s; a lower --rate may help; the state of step %d is kept, and the best adapter so far as %s",
		step, s.config.Rank, what, t.saved, t.dir.StatePath(name))}
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// teach fills the targets of a batch and returns the teacher's hidden states of it, or
// nil where they are not asked for.
func (t *trainer) teach(sequences [][]int32, ask bool) []float32 {
	t.batch.targets = t.batch.targets[:0]
	for _, s := range sequences {
		t.batch.targets = append(t.batch.targets, s[1:]...)
	}
	if !ask || t.teacher == nil {
		return nil
	}
	hidden := t.teacher.Forward(t.segments(t.teacher.Model(), &t.batch.teacher, sequences))
	t.batch.hidden = append(t.batch.hidden[:0], hidden...)
	return t.batch.hidden
}

// segments returns the batch of the sequences, without their last tokens.
func (t *trainer) segments(m *infer.Model, caches *[]*infer.Cache, sequences [][]int32) []infer.Segment {
	batch := make([]infer.Segment, len(sequences))
	for i, s := range sequences {
		if i == len(*caches) {
			*caches = append(*caches, m.NewCache(t.opts.SeqLen))
		}
		(*caches)[i].Reset()
		batch[i] = infer.Segment{Cache: (*caches)[i], Tokens: s[:len(s)-1]}
	}
	return batch
}

// validate runs the held-out text through the student model as each of the functions
// leaves it, and returns their scores and the teacher's.
func (t *trainer) validate(ctx context.Context, attach ...func()) ([]score, error) {
	scores := make([]score, len(attach)+1)
	for group := range slices.Chunk(t.data.Validation, max(1, 2048/t.opts.SeqLen)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		teacher := t.teach(group, true)
		for i, f := range attach {
			f()
			hidden := t.runner.Forward(t.segments(t.base, &t.batch.student, group))
			var again score
			ofTeacher := &scores[len(attach)]
			if i > 0 {
				ofTeacher = &again
			}
			t.head.measure(&scores[i], ofTeacher, hidden, teacher, t.batch.targets)
		}
	}
	for i := range scores {
		if n := float64(scores[i].Tokens); n > 0 {
			scores[i].KL /= n
			scores[i].Nats /= n
		}
	}
	return scores, nil
}

// value is what the run makes small, on held-out text: the objective at temperature 1.
func (t *trainer) value(s score) float64 { return t.loss.kl*s.KL + t.loss.ce*s.Nats }

// look measures every student, in the type that it will be stored in, and keeps the best.
func (t *trainer) look(ctx context.Context) error {
	var attach []func()
	for _, s := range t.students {
		attach = append(attach, func() { s.attach(t.base) })
		s.pack(t.pool, t.opts.stored())
	}
	scores, err := t.validate(ctx, attach...)
	if err != nil {
		// A step is saved only after the look that belongs to it.
		return err
	}
	for k, s := range t.students {
		s.pack(t.pool, safetensors.F32)
		sc := scores[k]
		if !finite(t.value(sc)) {
			return t.notFinite(t.Step, s, fmt.Sprintf("the loss on the held-out text is %v", t.value(sc)))
		}
		m := Metric{Step: t.Step, Tokens: t.tokens(t.Step), Rank: s.config.Rank, Perplexity: perplexity(sc)}
		if t.teacher != nil {
			m.KL = &sc.KL
		}
		t.metrics = append(t.metrics, m)
		t.held = t.value(sc)
		if t.Step == 0 {
			t.Initial = append(t.Initial, sc)
		}
		if b := &t.Best[k]; b.weights == nil || t.value(sc) < t.value(b.Score) {
			*b = best{t.Step, sc, slices.Clone(s.weights)}
		}
	}
	return nil
}

func perplexity(s score) *float64 {
	p := math.Exp(s.Nats)
	return &p
}

// stored is the type that adapters are stored in.
func (o *Options) stored() safetensors.DType {
	if o.Float32 {
		return safetensors.F32
	}
	return safetensors.F16
}

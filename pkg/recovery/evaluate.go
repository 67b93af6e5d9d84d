package recovery

import (
	"context"
	"fmt"
	"math"
	"slices"

	"afmq/pkg/safetensors"
)

// prepare scores the base, the teacher and the initial adapters on the validation text.
func (t *trainer) prepare(ctx context.Context) error {
	t.stage(StageBefore, targets(t.data.validation)*(t.passWork(1)+t.passWork(len(t.students))))
	defer t.opts.Progress.Done()
	t.detach()
	scores, err := t.validate(ctx, func() {})
	if err != nil {
		return err
	}
	t.Base, t.Teacher = scores[0], scores[len(scores)-1]
	return t.evaluate(ctx)
}

// validate scores models on the validation text; see measure.
func (t *trainer) validate(ctx context.Context, attach ...func()) ([]score, error) {
	return t.measure(ctx, t.data.validation, attach...)
}

// measure scores the base model on sequences once after each of the attach functions, which
// put an adapter into it, and returns those scores and, last, the teacher's.
func (t *trainer) measure(ctx context.Context, sequences [][]int32, attach ...func()) ([]score, error) {
	scores := make([]score, len(attach)+1)
	for group := range slices.Chunk(sequences, max(1, 2048/t.opts.SeqLen)) {
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
			t.opts.Progress.Advance(int64(len(t.batch.targets)) * t.measureWork())
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

// value is what training minimizes, as a figure of held-out text: the objective at
// temperature 1.
func (t *trainer) value(s score) float64 { return t.loss.kl*s.KL + t.loss.ce*s.Nats }

// evaluate scores every student on the validation text, in the type that it will be stored
// in, and keeps the best.
func (t *trainer) evaluate(ctx context.Context) error {
	var attach []func()
	for _, s := range t.students {
		attach = append(attach, func() { s.attach(t.base) })
		s.pack(t.pool, s.state().weights, t.opts.stored())
	}
	scores, err := t.validate(ctx, attach...)
	if err != nil {
		// Without a state saved: a step is saved only after the evaluation that follows it.
		return err
	}
	for k, s := range t.students {
		s.pack(t.pool, s.state().weights, safetensors.F32)
		sc := scores[k]
		if !finite(t.value(sc)) {
			return t.divergence(t.Step, s, fmt.Sprintf("the loss on the validation text is %v", t.value(sc)))
		}
		m := Metric{Step: t.Step, Tokens: t.tokens(t.Step), Rank: s.state().rank, Perplexity: perplexity(sc)}
		if t.teacher != nil {
			m.KL = &sc.KL
		}
		t.metrics = append(t.metrics, m)
		t.validation = t.value(sc)
		if t.Step == 0 {
			t.Initial = append(t.Initial, sc)
		}
		if b := &t.Best[k]; b.weights == nil || t.value(sc) < t.value(b.Score) {
			*b = best{t.Step, sc, slices.Clone(s.state().weights)}
		}
	}
	return nil
}

// test scores the base, the best state of every student and, last, the teacher on the test
// text.
func (t *trainer) test(ctx context.Context) ([]score, error) {
	attach := []func(){t.detach}
	for k, s := range t.students {
		s.pack(t.pool, t.Best[k].weights, t.opts.stored())
		attach = append(attach, func() { t.detach(); s.attach(t.base) })
	}
	t.stage(StageTest, targets(t.data.test)*t.passWork(len(attach)))
	defer t.opts.Progress.Done()
	return t.measure(ctx, t.data.test, attach...)
}

func perplexity(s score) *float64 {
	p := math.Exp(s.Nats)
	return &p
}

// stored returns the type that adapters are stored in.
func (o *Options) stored() safetensors.DType {
	switch {
	case o.Float32:
		return safetensors.F32
	case o.Float8:
		return safetensors.F8E4M3
	}
	return safetensors.F16
}

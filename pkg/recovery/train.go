package recovery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// run makes the remaining steps.
func (t *trainer) run(ctx context.Context) error {
	for _, s := range t.students {
		s.pack(t.pool, s.state().weights, safetensors.F32)
	}
	p := t.opts.Progress
	p.Stage(progress.Stage{Name: StageTrain, Work: t.trainWork(0), Done: t.trainWork(0) - t.trainWork(t.Step)})
	defer p.Done()
	t.savedAt = time.Now()
	for t.Step < t.steps {
		if err := ctx.Err(); err != nil {
			return t.stop(err)
		}
		if err := t.step(); err != nil {
			if ended := ctx.Err(); ended != nil && errors.Is(err, ended) {
				return t.stop(err)
			}
			return err // a divergence may have updated a part of the students
		}
		if t.Step%t.evalEvery == 0 || t.Step == t.steps {
			if err := t.evaluate(ctx); err != nil {
				return err
			}
		}
		if t.due(time.Since(t.savedAt)) || t.Step == t.steps {
			if err := t.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// due reports whether the state is to be saved, so long after the last time.
func (t *trainer) due(since time.Duration) bool {
	if t.saveTime > slowSave && since < saveCost*t.saveTime {
		return false
	}
	return float64(t.Step-t.saved) >= saveShare*float64(t.steps) || since >= saveEvery
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

// step makes one optimizer step of every student on the same sequences. If the context of the pool
// ends, it returns its error before it changes any weight.
func (t *trainer) step() error {
	losses, err := t.gradients()
	if err != nil {
		return err
	}
	return t.update(losses)
}

// gradients sums the gradients of a step, and returns the losses of the students.
func (t *trainer) gradients() (losses []float64, err error) {
	defer compute.Recover(&err)
	losses = make([]float64, len(t.students))
	for _, s := range t.students {
		clear(s.state().grads)
	}
	first := t.Step * int64(t.sequences)
	for at := 0; at < t.sequences; at += t.part {
		var sequences [][]int32
		for i := at; i < min(at+t.part, t.sequences); i++ {
			sequences = append(sequences, t.data.sequence(first+int64(i)))
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
			visit := s.visitors()
			losses[k] += t.head.gradient(t.loss, grad, hidden, teacher, t.batch.targets, visit.logits)
			t.opts.Progress.Advance(int64(len(t.batch.targets)) * t.gradientWork(teacher != nil))
			t.runner.BackwardAll(batch, t.tape, grad, visit.Visitors)
			if visit.embeddings != nil {
				visit.embeddings(tokensOf(batch), grad)
			}
			t.opts.Progress.Advance(int64(len(t.batch.targets)) * s.backWork())
		}
	}
	return losses, nil
}

// update makes the step with the gradients. It runs on the pool without a context: weights of
// which a part is updated could not be saved.
func (t *trainer) update(losses []float64) error {
	n, step := float64(t.stepTokens()), t.Step+1
	rate := learningRate(step, t.steps, t.opts.Rate, t.opts.Warmup)
	for k, l := range t.students {
		l.precondition(t.whole)
		s := l.state()
		loss, norm := losses[k]/n, gradientNorm(t.whole, s.grads)/n
		if !finite(loss) || !finite(norm) {
			return t.divergence(step, l, fmt.Sprintf("the loss is %v and its gradient's norm %v", loss, norm))
		}
		s.adamW(t.whole, step, rate, t.opts.WeightDecay, 1/n*clipFactor(norm, t.opts.Clip))
		l.pack(t.whole, s.weights, safetensors.F32)
		t.metrics = append(t.metrics, Metric{Step: step, Tokens: t.tokens(step), Rank: s.rank, Loss: &loss, Rate: rate, GradientNorm: norm})
	}
	t.Step = step
	t.opts.Progress.Status(fmt.Sprintf("step %d of %d, loss %.5f, validation %.5f", t.Step, t.steps, losses[len(losses)-1]/n, t.validation))
	return nil
}

// diverged is the error of a run whose loss or gradient became NaN or infinite.
type diverged struct{ text string }

func (e *diverged) Error() string { return e.text }

func (t *trainer) divergence(step int64, s learner, what string) error {
	rank := s.state().rank
	if rank == 0 {
		return &diverged{fmt.Sprintf("training diverged at step %d: %s; a lower --rate may help; the state of step %d is kept", step, what, t.saved)}
	}
	name, _ := adapterDir(rank)
	return &diverged{fmt.Sprintf("training diverged at step %d, rank %d: %s; a lower --rate may help; the state of step %d is kept, and the best adapter so far is in %s",
		step, rank, what, t.saved, t.dir.StatePath(name))}
}

// tokensOf returns the tokens of a batch.
func tokensOf(batch []infer.Segment) (tokens []int32) {
	for _, s := range batch {
		tokens = append(tokens, s.Tokens...)
	}
	return tokens
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

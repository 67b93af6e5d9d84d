package recovery

import (
	"context"
	"fmt"
	"math"
	"time"

	"afmq/pkg/safetensors"
)

// run makes the remaining steps.
func (t *trainer) run(ctx context.Context) error {
	for _, s := range t.students {
		s.pack(t.pool, s.weights, safetensors.F32)
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
			if err := t.evaluate(ctx); err != nil {
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

// step makes one optimizer step of every student on the same sequences.
func (t *trainer) step() error {
	losses := make([]float64, len(t.students))
	for _, s := range t.students {
		clear(s.grads)
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
			losses[k] += t.head.gradient(t.loss, grad, hidden, teacher, t.batch.targets)
			t.runner.Backward(batch, t.tape, grad, s.visitor)
		}
	}
	n, step := float64(t.stepTokens()), t.Step+1
	rate := learningRate(step, t.steps, t.opts.Rate, t.opts.Warmup)
	for k, s := range t.students {
		s.whiten(t.pool)
		loss, norm := losses[k]/n, gradientNorm(t.pool, s.grads)/n
		if !finite(loss) || !finite(norm) {
			return t.divergence(step, s, fmt.Sprintf("the loss is %v and its gradient's norm %v", loss, norm))
		}
		s.adamW(t.pool, step, rate, t.opts.WeightDecay, 1/n*clipFactor(norm, t.opts.Clip))
		s.pack(t.pool, s.weights, safetensors.F32)
		t.metrics = append(t.metrics, Metric{Step: step, Tokens: t.tokens(step), Rank: s.config.Rank, Loss: &loss, Rate: rate, GradientNorm: norm})
	}
	t.Step = step
	t.opts.Progress.Status(fmt.Sprintf("loss %.5f, validation %.5f", losses[len(losses)-1]/n, t.validation))
	return nil
}

// diverged is the error of a run whose loss or gradient became NaN or infinite.
type diverged struct{ text string }

func (e *diverged) Error() string { return e.text }

func (t *trainer) divergence(step int64, s *student, what string) error {
	name, _ := adapterDir(s.config.Rank)
	return &diverged{fmt.Sprintf("training diverged at step %d, rank %d: %s; a lower --rate may help; the state of step %d is kept, and the best adapter so far is in %s",
		step, s.config.Rank, what, t.saved, t.dir.StatePath(name))}
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

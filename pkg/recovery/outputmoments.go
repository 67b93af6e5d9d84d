package recovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"afmq/pkg/infer"
)

// momentMemory is the limit of the second moments of all outputs, in bytes; beyond it only
// their diagonals are kept.
const momentMemory = 1 << 30

// wholeOutputs reports whether the second moments of all outputs are kept as matrices.
func wholeOutputs(parts []part) bool {
	bytes, widest := 0, 0
	for _, p := range parts {
		bytes += 4 * p.spec.Shape[0] * p.spec.Shape[0]
		widest = max(widest, p.spec.Shape[0])
	}
	return bytes <= momentMemory && widest <= widestWhole
}

// notes says where the run has diagonals in place of second moments because these would take too much
// memory, one line each. docs/recovery.md has what that costs.
func (t *trainer) notes() (notes []string) {
	parts := t.adapters[0].parts
	var wide []string
	for i := range parts {
		if p := &parts[i]; p.spec.Shape[1] > widestWhole && !slices.Contains(wide, p.spec.Kind) {
			wide = append(wide, p.spec.Kind)
		}
	}
	if len(wide) > 0 {
		notes = append(notes, fmt.Sprintf("the inputs of %s have more than %d values: the diagonal of their second moments stands for the whole, in the init and in the optimizer", strings.Join(wide, ", "), widestWhole))
	}
	if t.opts.From == "" && t.opts.Init == InitSVD && !wholeOutputs(parts) {
		notes = append(notes, fmt.Sprintf("the second moments of gradients at the modules' outputs would take more than %d MiB, or have more than %d rows: the init uses their diagonals", momentMemory>>20, widestWhole))
	}
	return notes
}

// outputMoments returns the second moments of the loss's gradients at the output of every
// adapted module. The loss is the cross-entropy of tokens sampled from the base itself, whose
// gradients have the Fisher information as their second moments.
func (t *trainer) outputMoments(ctx context.Context, text [][]int32) (map[place]*moments, error) {
	parts := t.adapters[0].parts
	whole := wholeOutputs(parts)
	sums := map[place]*moments{}
	for _, part := range parts {
		sums[part.place()] = newMoments(part.spec.Shape[0], whole)
	}
	t.detach()
	p := t.opts.Progress
	back := int64(0) // products with the weights and those of the moments
	for _, part := range parts {
		out, in := int64(part.spec.Shape[0]), int64(part.spec.Shape[1])
		back += out*in + out*out/2
	}
	t.stage(StageGradients, int64(len(text)*t.opts.SeqLen)*(t.base.ForwardWork()+2*t.base.HeadWork()+back))
	defer p.Done()
	for i, s := range text {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rng := rand.New(rand.NewPCG(uint64(t.opts.Seed), 1<<34+uint64(i)))
		batch := []infer.Segment{{Cache: t.base.NewCache(len(s)), Tokens: s}}
		hidden := slices.Clone(t.runner.ForwardTape(batch, t.tape))
		grad := make([]float32, len(hidden))
		t.runner.SampledGradient(grad, hidden, len(s), rng)
		p.Advance(2 * int64(len(s)) * t.base.HeadWork())
		t.runner.Backward(batch, t.tape, grad, func(q infer.Projected) {
			if m := sums[place{q.Layer, q.Kind}]; m != nil {
				m.add(t.pool, q.G, q.N)
			}
		})
		p.Advance(int64(len(s)) * back)
	}
	return sums, nil
}

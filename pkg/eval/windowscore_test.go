package eval

import (
	"fmt"
	"math"
	"testing"

	"afmq/pkg/infer"
)

// Windows add up to the whole evaluation, in every protocol.
func TestWindowScores(t *testing.T) {
	pool := newPool(t, 2)
	m := openTiny(t, pool)
	other, corpus := blurred(m), encodeTexts(t, m, passage)
	for _, o := range []ScoreOptions{{Protocol: Chunk, Ctx: 7}, {Protocol: LlamaCpp, Ctx: 8}, {Protocol: Stride, Ctx: 9, Stride: 4}} {
		for _, ref := range []*infer.Model{nil, other} {
			t.Run(fmt.Sprint(o.Protocol, ref != nil), func(t *testing.T) {
				o.Reference, o.Pool = ref, pool
				e, err := Score(bg, m, corpus, o)
				if err != nil {
					t.Fatal(err)
				}
				tokens, nats, refNats, kl := 0, 0.0, 0.0, 0.0
				for _, w := range e.Windows {
					tokens += w.Tokens
					nats += w.Nats * float64(w.Tokens)
					if (w.KL != nil) != (ref != nil) || (w.ReferenceNats != nil) != (ref != nil) {
						t.Fatal("figures of a reference without one, or none with it")
					}
					if w.KL != nil {
						kl += *w.KL * float64(w.Tokens)
						refNats += *w.ReferenceNats * float64(w.Tokens)
					}
				}
				if tokens != e.Tokens || len(e.Windows) < 3 {
					t.Errorf("%d tokens in %d windows; %d were scored", tokens, len(e.Windows), e.Tokens)
				}
				if got := nats / float64(tokens); math.Abs(got-e.NatsPerToken) > 1e-12*got {
					t.Errorf("the windows give %v nats per token; the whole has %v", got, e.NatsPerToken)
				}
				if ref == nil {
					return
				}
				if got := math.Exp(refNats / float64(tokens)); math.Abs(got-e.ReferencePerplexity) > 1e-12*got {
					t.Errorf("the windows give the reference a perplexity of %v; the whole has %v", got, e.ReferencePerplexity)
				}
				if math.Abs(kl/float64(tokens)-e.KL.Mean) > 1e-12 {
					t.Errorf("the windows give a divergence of %v; the whole has %v", kl/float64(tokens), e.KL.Mean)
				}
			})
		}
	}
}

// A window's figures are the definition's, in float64, on its tokens alone.
func TestWindowScoresByDefinition(t *testing.T) {
	pool := newPool(t, 2)
	m := openTiny(t, pool)
	ref, corpus := blurred(m), encodeTexts(t, m, passage)
	const ctx = 11
	e, err := Score(bg, m, corpus, ScoreOptions{Ctx: ctx, Reference: ref, Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range e.Windows {
		ids := corpus.IDs[i*ctx : min((i+1)*ctx, len(corpus.IDs))]
		p, q := logProbabilities(m, pool, ids), logProbabilities(ref, pool, ids)
		nats, kl := 0.0, 0.0
		for k := 1; k < len(ids); k++ {
			nats -= p[k-1][ids[k]]
			for v, lq := range q[k-1] {
				kl += math.Exp(lq) * (lq - p[k-1][v])
			}
		}
		n := float64(len(ids) - 1)
		if w.Tokens != len(ids)-1 || math.Abs(w.Nats-nats/n) > 1e-5 || math.Abs(*w.KL-kl/n) > 1e-6 {
			t.Errorf("window %d: %d tokens, %v nats, %v KL; expected %v, %v, %v", i, w.Tokens, w.Nats, *w.KL, n, nats/n, kl/n)
		}
	}
}

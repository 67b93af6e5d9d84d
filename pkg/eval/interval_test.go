package eval

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"afmq/pkg/infer"
)

// Means and intervals are those of scipy and statsmodels; scripts/make_gate_fixtures.py
// made the file.
func TestMeanIntervalAgainstScipy(t *testing.T) {
	data, err := os.ReadFile("testdata/intervals.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name                            string
			Weights, Values                 []float64
			Confidence, Mean, SE, Low, High float64
		}
	}
	if err := json.Unmarshal(data, &file); err != nil || len(file.Cases) < 7 {
		t.Fatalf("%d cases: %v", len(file.Cases), err)
	}
	for _, c := range file.Cases {
		got, err := MeanInterval(c.Weights, c.Values, c.Confidence)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		for _, x := range []struct {
			what      string
			got, want float64
		}{{"mean", got.Mean, c.Mean}, {"se", got.SE, c.SE}, {"low", got.Low, c.Low}, {"high", got.High, c.High}} {
			if !(math.Abs(x.got-x.want) <= 1e-9*(math.Abs(c.Mean)+c.SE)) {
				t.Errorf("%s: %s is %v; scipy has %v", c.Name, x.what, x.got, x.want)
			}
		}
		if got.Windows != len(c.Values) || got.Confidence != c.Confidence {
			t.Errorf("%s: %+v", c.Name, got)
		}
	}
}

// The interval holds the true mean as often as it says, with windows of unequal length
// whose spread depends on it.
func TestMeanIntervalCovers(t *testing.T) {
	const trials, windows, mean = 4000, 30, 0.01
	rng := rand.New(rand.NewPCG(3, 4))
	held := 0
	for range trials {
		w, x := make([]float64, windows), make([]float64, windows)
		for i := range w {
			w[i] = float64(128 + rng.IntN(384))
			x[i] = mean + 0.4*rng.NormFloat64()/math.Sqrt(w[i])
		}
		iv, err := MeanInterval(w, x, 0.95)
		if err != nil {
			t.Fatal(err)
		}
		if iv.Low <= mean && mean <= iv.High {
			held++
		}
	}
	// Four standard deviations of the count, and the little that a finite sample costs.
	if share := float64(held) / trials; share < 0.93 || share > 0.965 {
		t.Errorf("the interval of 95 %% held the mean in %.1f %% of the trials", 100*share)
	}
}

func TestMeanIntervalOfEqualValues(t *testing.T) {
	iv, err := MeanInterval([]float64{3, 5}, []float64{0, 0}, 0.95)
	if err != nil || iv.Mean != 0 || iv.Low != 0 || iv.High != 0 {
		t.Errorf("%+v, %v", iv, err)
	}
	for _, c := range [][2][]float64{{{1}, {1}}, {{1, 2}, {1}}, {{1, 0}, {1, 2}}, {{1, 2}, {1, math.NaN()}}, {nil, nil}} {
		if _, err := MeanInterval(c[0], c[1], 0.95); err == nil {
			t.Errorf("no error for weights %v and values %v", c[0], c[1])
		}
	}
}

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
				tokens, nats, kl := 0, 0.0, 0.0
				for _, w := range e.Windows {
					tokens += w.Tokens
					nats += w.Nats * float64(w.Tokens)
					if (w.KL != nil) != (ref != nil) {
						t.Fatal("divergence without a reference, or none with it")
					}
					if w.KL != nil {
						kl += *w.KL * float64(w.Tokens)
					}
				}
				if tokens != e.Tokens || len(e.Windows) < 3 {
					t.Errorf("%d tokens in %d windows; %d were scored", tokens, len(e.Windows), e.Tokens)
				}
				if got := nats / float64(tokens); math.Abs(got-e.NatsPerToken) > 1e-12*got {
					t.Errorf("the windows give %v nats per token; the whole has %v", got, e.NatsPerToken)
				}
				if ref != nil && math.Abs(kl/float64(tokens)-e.KL.Mean) > 1e-12 {
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

package eval

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"afmq/pkg/adapter"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// adapted returns m with an adapter of small random weights on every projection.
func adapted(m *infer.Model, rank int, seed uint64) *infer.Model {
	rng := rand.New(rand.NewPCG(seed, 1))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = 0.05 * float32(rng.NormFloat64())
		}
		return v
	}
	a := &adapter.Adapter{Config: adapter.Config{Rank: rank, Alpha: float64(rank)}, Modules: map[string]adapter.Weights{}}
	for _, spec := range m.Config.Tensors() {
		if spec.Role == model.Projection {
			a.Modules[spec.Module()] = adapter.Weights{A: random(rank * spec.Shape[1]), B: random(spec.Shape[0] * rank), DType: safetensors.F32}
		}
	}
	return m.WithAdapter(a)
}

// Models that are scored together have the bits of being scored alone, and the reference
// runs once for all of them.
func TestScoreAll(t *testing.T) {
	pool := newPool(t, 2)
	m := openTiny(t, pool)
	corpus := encodeTexts(t, m, passage, passage[:100], passage)
	config := *m.Config
	other := *blurred(m)
	other.Config = &config // runs with buffers of its own
	models := []*infer.Model{m, adapted(m, 2, 7), &other, adapted(&other, 8, 8), blurred(m)}
	for _, o := range []ScoreOptions{
		{Protocol: Chunk, Ctx: 40}, {Protocol: LlamaCpp, Ctx: 16}, {Protocol: Stride, Ctx: 24, Stride: 5},
		{Protocol: Chunk, Ctx: 40, Reference: m}, {Protocol: Stride, Ctx: 24, Stride: 5, Reference: adapted(m, 4, 9)},
	} {
		o.Pool = pool
		together, err := ScoreAll(bg, models, corpus, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range models {
			alone, err := Score(bg, models[i], corpus, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []*Result{alone, together[i]} {
				if !(r.Seconds > 0 && r.TokensPerSecond > 0) {
					t.Errorf("%s, model %d: %v s, %v tokens/s", o.Protocol, i, r.Seconds, r.TokensPerSecond)
				}
				if !(r.OwnSeconds > 0 && r.OwnTokensPerSecond > 0 && r.OwnSeconds <= r.Seconds) {
					t.Errorf("%s, model %d: %v s of %v s are its own", o.Protocol, i, r.OwnSeconds, r.Seconds)
				}
				untimed(r)
			}
			if diff := cmp.Diff(alone, together[i]); diff != "" {
				t.Errorf("%s, model %d: %s", o.Protocol, i, diff)
			}
			if i > 0 && together[i].NatsPerToken == together[0].NatsPerToken {
				t.Errorf("%s: models 0 and %d have the same loss", o.Protocol, i)
			}
		}
	}
}

// countingRunner counts the tokens that pass through a runner.
type countingRunner struct {
	*infer.Runner
	tokens, rows int
}

func (r *countingRunner) Forward(batch []infer.Segment) []float32 {
	for _, s := range batch {
		r.tokens += len(s.Tokens)
	}
	return r.Runner.Forward(batch)
}

func (r *countingRunner) Logits(logits, hidden []float32, n int) {
	r.rows += n
	r.Runner.Logits(logits, hidden, n)
}

// However many models there are, each token passes once through the reference.
func TestReferenceRunsOnce(t *testing.T) {
	pool := newPool(t, 1)
	m := openTiny(t, pool)
	corpus := encodeTexts(t, m, passage, passage)
	models := []*infer.Model{blurred(m), adapted(m, 2, 1), adapted(m, 2, 2)}
	o := ScoreOptions{Protocol: Stride, Ctx: 32, Stride: 8, Reference: m, Pool: pool}
	if err := o.resolve(models); err != nil {
		t.Fatal(err)
	}
	windows, err := o.windows(len(corpus.IDs))
	if err != nil {
		t.Fatal(err)
	}
	e := newEvaluator(pool, models, corpus, o, windows)
	reference, shared := &countingRunner{Runner: m.NewRunner(pool)}, &countingRunner{Runner: m.NewRunner(pool)}
	e.reference.passes.runner, e.models[0].passes.runner = reference, shared
	for batch := range slices.Chunk(windows, 3) {
		if err := e.run(bg, batch); err != nil {
			t.Fatal(err)
		}
	}
	tokens := 0
	for _, w := range windows {
		tokens += w.len()
	}
	scored := len(corpus.IDs) - 1
	if reference.tokens != tokens || reference.rows != scored {
		t.Errorf("the reference ran %d tokens and %d rows of logits; the text has %d and %d", reference.tokens, reference.rows, tokens, scored)
	}
	if n := len(models); shared.tokens != n*tokens || shared.rows != n*scored {
		t.Errorf("%d models ran %d tokens and %d rows of logits; the text has %d and %d", n, shared.tokens, shared.rows, tokens, scored)
	}
}

// A context far longer than the text takes the memory of the text.
func TestScoreLongContext(t *testing.T) {
	pool := newPool(t, 1)
	m := *openTiny(t, pool)
	config := *m.Config
	config.MaxPositions = 1 << 30
	m.Config = &config
	corpus := encodeTexts(t, &m, passage)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := Score(bg, &m, corpus, ScoreOptions{Ctx: 1 << 30, Pool: pool})
	runtime.ReadMemStats(&after)
	if err != nil || r.Tokens != len(corpus.IDs)-1 {
		t.Fatal(r, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d bytes allocated for %d tokens", n, r.Tokens)
	}
}

// The result of the reference is that of scoring it alone.
func TestReferenceResult(t *testing.T) {
	pool := newPool(t, 1)
	m := openTiny(t, pool)
	corpus := encodeTexts(t, m, passage)
	for _, o := range []ScoreOptions{{Ctx: 40, Pool: pool}, {Protocol: LlamaCpp, Ctx: 16, Pool: pool}, {Protocol: Stride, Ctx: 24, Stride: 5, Pool: pool}} {
		alone, err := Score(bg, m, corpus, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Reference = m
		e, err := Score(bg, blurred(m), corpus, o)
		if err != nil {
			t.Fatal(err)
		}
		untimed(alone)
		untimed(e)
		if diff := cmp.Diff(alone, e.Comparison.Reference); diff != "" {
			t.Errorf("%s: %s", o.Protocol, diff)
		}
	}
}

// untimed removes the times of a result and of its reference.
func untimed(r *Result) {
	r.Seconds, r.TokensPerSecond, r.OwnSeconds, r.OwnTokensPerSecond = 0, 0, 0, 0
	if c := r.Comparison; c != nil && c.Reference != nil {
		untimed(c.Reference)
	}
}

package eval

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/tokenizer"
)

// tinyModel is the trained checkpoint that the project embeds: 1.07 M
// parameters, tied, F16.
const tinyModel = "../../internal/demo/model"

var bg = context.Background()

const passage = "The old man walked down to the river in the morning and looked at the boats. " +
	"He said to his son that the water was high, and that they would wait until the evening. " +
	"“We have time,” he said, “and the fish will not run away.” The boy laughed and sat down on a stone.\n"

func openTiny(t testing.TB, pool *compute.Pool) *infer.Model {
	t.Helper()
	m, err := infer.Open(bg, tinyModel, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// blurred returns a model that differs a little from m: its final norm is
// another one.
func blurred(m *infer.Model) *infer.Model {
	c := *m
	c.FinalNorm = slices.Clone(m.FinalNorm)
	for i := range c.FinalNorm {
		c.FinalNorm[i] *= 1 + 0.1*float32(i%5-2)
	}
	return &c
}

func encodeTexts(t testing.TB, m *infer.Model, texts ...string) *Corpus {
	t.Helper()
	c, err := EncodeTexts("text", texts, m.Tokenizer, m.Config.Separator())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newPool(t testing.TB, threads int) *compute.Pool {
	p := compute.NewPool(threads)
	t.Cleanup(p.Close)
	return p
}

// logProbabilities computes the log-probabilities of each next token, in float64, from the
// logits of one window.
func logProbabilities(m *infer.Model, pool *compute.Pool, ids []int32) [][]float64 {
	r := m.NewRunner(pool)
	logits := make([]float32, len(ids)*m.Config.VocabSize)
	r.Logits(logits, r.Forward([]infer.Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}}), len(ids))
	out := make([][]float64, len(ids))
	for i := range out {
		row := logits[i*m.Config.VocabSize : (i+1)*m.Config.VocabSize]
		top := float64(slices.Max(row))
		sum := 0.0
		for _, l := range row {
			sum += math.Exp(float64(l) - top)
		}
		for _, l := range row {
			out[i] = append(out[i], float64(l)-top-math.Log(sum))
		}
	}
	return out
}

// naive evaluates window by window as the protocols' definitions read, without
// batches and with everything kept.
func naive(model, reference *infer.Model, pool *compute.Pool, c *Corpus, o ScoreOptions, bos int32) *Result {
	type span struct{ start, end, first int } // tokens [first, end) are scored
	var spans []span
	n := len(c.IDs)
	switch o.Protocol {
	case Chunk:
		for s := 0; s < n; s += o.Ctx {
			spans = append(spans, span{s, min(s+o.Ctx, n), s + 1})
		}
	case LlamaCpp:
		for s := 0; s+o.Ctx <= n; s += o.Ctx {
			spans = append(spans, span{s, s + o.Ctx, s + o.Ctx/2 + 1})
		}
	case Stride:
		scored := 1 // the first token has nothing before it
		for k := 0; scored < n; k++ {
			s, e := k*o.Stride, min(k*o.Stride+o.Ctx, n)
			spans = append(spans, span{s, e, max(scored, s+1)})
			scored = e
		}
	}
	var nats, kl []float64
	var refSum, dp2, same, bytes float64
	for _, s := range spans {
		ids := slices.Clone(c.IDs[s.start:s.end])
		if o.Protocol == LlamaCpp && bos >= 0 {
			ids[0] = bos
		}
		p, q := logProbabilities(model, pool, ids), logProbabilities(reference, pool, ids)
		for t := s.first; t < s.end; t++ {
			lp, lq := p[t-s.start-1], q[t-s.start-1]
			target := c.IDs[t]
			nats = append(nats, -lp[target])
			refSum -= lq[target]
			d, bestP, bestQ := 0.0, 0, 0
			for i := range lp {
				d += math.Exp(lq[i]) * (lq[i] - lp[i])
				if lp[i] > lp[bestP] {
					bestP = i
				}
				if lq[i] > lq[bestQ] {
					bestQ = i
				}
			}
			kl = append(kl, d)
			if bestP == bestQ {
				same++
			}
			dp2 += math.Pow(math.Exp(lp[target])-math.Exp(lq[target]), 2)
			bytes += float64(c.Bytes[t])
		}
	}
	count, sum, squares := float64(len(nats)), 0.0, 0.0
	for _, x := range nats {
		sum += x
	}
	for _, x := range nats {
		squares += (x - sum/count) * (x - sum/count)
	}
	e := &Result{Tokens: len(nats), NatsPerToken: sum / count, Perplexity: math.Exp(sum / count)}
	e.PerplexitySE = e.Perplexity * math.Sqrt(squares/(count-1)) / math.Sqrt(count)
	e.BitsPerByte = sum / math.Ln2 / bytes
	klSum := 0.0
	for _, x := range kl {
		klSum += x
	}
	slices.Sort(kl)
	e.Comparison = &Comparison{
		KL:       Divergence{Mean: klSum / count, Max: kl[len(kl)-1]},
		SameTop1: same / count, DeltaPRMS: math.Sqrt(dp2 / count),
		ReferencePerplexity: math.Exp(refSum / count), PerplexityRatio: math.Exp((sum - refSum) / count),
	}
	return e
}

// Score agrees with the definitions of the protocols and figures, computed without batches.
func TestScore(t *testing.T) {
	pool := newPool(t, 2)
	reference := openTiny(t, pool)
	model := blurred(reference)
	corpus := encodeTexts(t, model, strings.Repeat(passage, 3), passage)
	for _, o := range []ScoreOptions{
		{Protocol: Chunk, Ctx: 32}, {Protocol: Chunk, Ctx: 1024}, {Protocol: Chunk, Ctx: 33}, {Protocol: LlamaCpp, Ctx: 32},
		{Protocol: LlamaCpp, Ctx: 31}, {Protocol: Stride, Ctx: 32, Stride: 8}, {Protocol: Stride, Ctx: 48, Stride: 47},
	} {
		o.Reference, o.Pool = reference, pool
		got, err := Score(bg, model, corpus, o)
		if err != nil {
			t.Fatal(err)
		}
		want := naive(model, reference, pool, corpus, o, -1)
		if got.Tokens != want.Tokens {
			t.Errorf("%+v: %d tokens, expected %d", o, got.Tokens, want.Tokens)
		}
		near := func(what string, got, want float64) {
			if !(math.Abs(got-want) <= 1e-5*math.Abs(want)) {
				t.Errorf("%+v: %s is %v, expected %v", o, what, got, want)
			}
		}
		near("nats per token", got.NatsPerToken, want.NatsPerToken)
		near("perplexity", got.Perplexity, want.Perplexity)
		near("standard error", got.PerplexitySE, want.PerplexitySE)
		near("bits per byte", got.BitsPerByte, want.BitsPerByte)
		near("mean divergence", got.KL.Mean, want.KL.Mean)
		near("largest divergence", got.KL.Max, want.KL.Max)
		near("same top", got.SameTop1, want.SameTop1)
		near("Δp", got.DeltaPRMS, want.DeltaPRMS)
		near("reference perplexity", got.ReferencePerplexity, want.ReferencePerplexity)
		near("perplexity ratio", got.PerplexityRatio, want.PerplexityRatio)
		if d := got.KL; !(d.Median > 0 && d.Median < d.P99 && d.P99 <= d.P999 && d.P999 <= d.Max && d.Mean > 0) {
			t.Errorf("%+v: divergence %+v", o, d)
		}
	}
}

// The bits of every figure are the same on any number of threads.
func TestScoreThreads(t *testing.T) {
	var first *Result
	for _, threads := range []int{1, 2, 5} {
		pool := newPool(t, threads)
		reference := openTiny(t, pool)
		corpus := encodeTexts(t, reference, passage)
		e, err := Score(bg, blurred(reference), corpus, ScoreOptions{Ctx: 40, Reference: reference, Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		untimed(e)
		ref := e.Comparison.Reference
		e.Comparison.Reference = nil
		if ref.PerplexitySE == 0 || math.Abs(ref.Perplexity-e.ReferencePerplexity) > 0 {
			t.Errorf("%d threads: the reference has the result %+v", threads, ref)
		}
		if first == nil {
			first = e
		} else if *e.Comparison != *first.Comparison || e.NatsPerToken != first.NatsPerToken || e.PerplexitySE != first.PerplexitySE {
			t.Errorf("%d threads: %+v, one has %+v", threads, e, first)
		}
	}
}

// Protocol llamacpp puts the beginning-of-sequence token in front of each window,
// where the post-processor adds one.
func TestLlamaCppBOS(t *testing.T) {
	pool := newPool(t, 1)
	m := openTiny(t, pool)
	data, err := os.ReadFile(filepath.Join(tinyModel, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	eos, _ := m.Tokenizer.Token(m.Config.EOS[0])
	template := `"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "` + eos + `", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"` + eos + `": {"id": "` + eos + `", "ids": [0], "tokens": ["` + eos + `"]}}}, "old":`
	if m.Tokenizer, err = tokenizer.Parse("tokenizer.json", []byte(strings.Replace(string(data), `"post_processor":`, template, 1))); err != nil {
		t.Fatal(err)
	}
	corpus := encodeTexts(t, m, passage)
	if corpus.IDs[0] != 0 || corpus.Bytes[0] != 0 {
		t.Fatalf("the text starts with token %d", corpus.IDs[0])
	}
	o := ScoreOptions{Protocol: LlamaCpp, Ctx: 16, Reference: m, Pool: pool}
	got, err := Score(bg, m, corpus, o)
	if err != nil {
		t.Fatal(err)
	}
	want, other := naive(m, m, pool, corpus, o, 0), naive(m, m, pool, corpus, o, -1)
	if math.Abs(got.NatsPerToken-want.NatsPerToken) > 1e-5 || math.Abs(got.NatsPerToken-other.NatsPerToken) < 1e-4 {
		t.Errorf("%v nats; %v with the token, %v without", got.NatsPerToken, want.NatsPerToken, other.NatsPerToken)
	}
}

func TestScoreErrors(t *testing.T) {
	pool := newPool(t, 1)
	m := openTiny(t, pool)
	text := encodeTexts(t, m, passage)
	bare := *m
	bare.Tokenizer = nil
	if _, err := Score(bg, &bare, text, ScoreOptions{Pool: pool, Ctx: 8}); err != nil {
		t.Errorf("protocol chunk without a tokenizer: %v", err)
	}
	broken := *m
	broken.FinalNorm = slices.Clone(m.FinalNorm)
	broken.FinalNorm[3] = float32(math.NaN())
	for name, tc := range map[string]struct {
		model  *infer.Model
		corpus *Corpus
		opts   ScoreOptions
		kind   fault.Kind
	}{
		"one token":         {m, &Corpus{File: "x", IDs: text.IDs[:1], Bytes: text.Bytes[:1]}, ScoreOptions{}, fault.Input},
		"ctx of one":        {m, text, ScoreOptions{Ctx: 1}, fault.Usage},
		"ctx too long":      {m, text, ScoreOptions{Ctx: m.Config.MaxPositions + 1}, fault.Usage},
		"stride over ctx":   {m, text, ScoreOptions{Protocol: Stride, Ctx: 8, Stride: 9}, fault.Usage},
		"id out of range":   {m, &Corpus{File: "x", IDs: []int32{1, 2048}, Bytes: []int32{1, 1}}, ScoreOptions{}, fault.Input},
		"negative id":       {m, &Corpus{File: "x", IDs: []int32{-1, 1}, Bytes: []int32{1, 1}}, ScoreOptions{}, fault.Input},
		"no bytes":          {m, &Corpus{File: "x", IDs: []int32{1, 1}}, ScoreOptions{}, fault.Input},
		"no tokenizer":      {&bare, text, ScoreOptions{Protocol: LlamaCpp, Ctx: 8}, fault.Usage},
		"weights not a num": {&broken, text, ScoreOptions{}, fault.Input},
	} {
		tc.opts.Pool = pool
		if _, err := Score(bg, tc.model, tc.corpus, tc.opts); fault.KindOf(err) != tc.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	stopped, cancel := context.WithCancel(bg)
	cancel()
	if _, err := Score(stopped, m, text, ScoreOptions{Pool: pool}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

func TestReadCorpus(t *testing.T) {
	pool := newPool(t, 1)
	m := openTiny(t, pool)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ids := func(text string) []int32 { return m.Tokenizer.Encode(text, true).IDs }

	c, err := ReadCorpus(write("a.txt", "{\"text\": \"x\"}\n"), m.Tokenizer, 0)
	if err != nil || !slices.Equal(c.IDs, ids("{\"text\": \"x\"}\n")) {
		t.Errorf("text: %v, %v", c, err)
	}
	c, err = ReadCorpus(write("a.jsonl", "{\"text\": \"The sea\"}\n\n{\"id\": 2, \"text\": \"a \\u00e9\"}"), m.Tokenizer, 0)
	if want := slices.Concat(ids("The sea"), []int32{0}, ids("a é")); err != nil || !slices.Equal(c.IDs, want) {
		t.Errorf("lines: %v, %v; expected %v", c, err, want)
	}
	bytes := 0
	for _, n := range c.Bytes {
		bytes += int(n)
	}
	if bytes != len("The sea")+len("a é") {
		t.Errorf("lines: %d bytes", bytes)
	}
	for name, text := range map[string]string{
		"empty.txt": "", "blank.txt": " \n\t", "empty.jsonl": "\n\n", "list.jsonl": "[1]\n", "other.jsonl": "{\"txt\": \"x\"}",
		"number.jsonl": "{\"text\": 5}", "torn.jsonl": "{\"text\": \"x\"}\n{\"text\": \"y", "binary.txt": "ab\xff\xfe",
	} {
		path := write(name, text)
		if _, err := ReadCorpus(path, m.Tokenizer, 0); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadCorpus(write("two.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}"), m.Tokenizer, -1); fault.KindOf(err) != fault.Input {
		t.Errorf("two texts and no separator: %v", err)
	}
	if _, err := ReadCorpus(dir, m.Tokenizer, 0); fault.KindOf(err) != fault.Input {
		t.Errorf("a directory: %v", err)
	}
}

package coreai

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"afmq/internal/calibration"
	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/tokenizer"
)

// Limits of the comparison with the engine.
const (
	maxLogitDifference = 1e-3 // of the float32 program, times the root mean square of the logits where that is above 1
	// Divergence of the fp16 program from the float32 one, in nats a token. Rounding costs less than
	// the first on small models. The runtime also sums in fp16, which costs more the longer the
	// sums are: a synthetic 1 B model had 0.002. Two exchanged matrices had 1.5.
	usualHalfKL = 5e-4
	maxHalfKL   = 5e-2
)

// halfBudget is the number of weights times tokens that the fp16 program is run on: the runtime
// emulates fp16, at about 10 million weights a second.
const halfBudget = 1e9

// run runs every function of the base and the adapters on a text and compares the logits.
func (w *workspace) run(ctx context.Context, asset string, r *Result) error {
	if w.CheckTokens < 0 && w.CheckData == "" {
		return nil
	}
	twin := filepath.Join(w.dir, "twin.aimodel")
	ask := w.request("build", twin, "float32")
	ask.Free = true
	if _, err := w.bridge.ask(ctx, ask); err != nil {
		return err
	}
	defer os.RemoveAll(twin)
	m, err := infer.Open(ctx, w.Artifact, infer.OpenOptions{Pool: w.pool, Progress: w.Progress})
	if err != nil {
		return err
	}
	if m.Manifest.ContentHash != r.ContentHash {
		return fault.Inputf(w.Artifact, "was changed during the export")
	}
	if w.CheckTokens > 0 {
		if err := w.checkFunctions(ctx, m, twin, r); err != nil {
			return err
		}
	}
	if w.CheckData != "" {
		return w.checkData(ctx, m, twin, r)
	}
	return nil
}

// variant is a function with the model that it must agree with.
type variant struct {
	function, adapter string
	model             *infer.Model
}

// variants returns the functions that are compared.
func (w *workspace) variants(m *infer.Model) []variant {
	var out []variant
	for _, f := range w.functionsOf() {
		v := variant{f.Name, "", m}
		for _, a := range w.Adapters {
			if a.Name == f.Adapter {
				v.model = m.WithAdapter(a.open.Adapter)
			}
		}
		out = append(out, v)
	}
	if w.AdapterInputs {
		for _, a := range w.Adapters {
			out = append(out, variant{"main_lora", a.Name, m.WithAdapter(a.open.Adapter)})
		}
	}
	return out
}

// checkFunctions compares the float32 twin with the engine and the fp16 program with the twin.
func (w *workspace) checkFunctions(ctx context.Context, m *infer.Model, twin string, r *Result) error {
	ids := w.text
	half := w.halfTokens(m, len(ids))
	variants := w.variants(m)
	lengths := w.lengths(r.Functions, m, len(variants))
	w.Progress.Stage(progress.Stage{Name: StageRun, Work: int64(len(variants) * (len(ids) + tokensOf(lengths) + 10*half))})
	defer w.Progress.Done()
	exact, err := w.logitsOf(ctx, twin, "float32", variants, ids)
	if err != nil {
		return err
	}
	for i, v := range variants {
		c := Check{Function: w.label(v), Functions: 1, Tokens: len(ids), HalfTokens: half}
		want := w.engineLogits(v.model, ids)
		c.MaxLogit = largestDifference(exact[i], want)
		limit := maxLogitDifference * max(1, rootMeanSquare(want))
		if !(c.MaxLogit <= limit) {
			return fmt.Errorf("%s: the logits of the Core AI program differ from the engine's by up to %.2g; %.2g is allowed", c.Function, c.MaxLogit, limit)
		}
		if err := w.checkLengths(ctx, lengths, v, ids, want, limit, &c); err != nil {
			return err
		}
		r.Check = append(r.Check, c)
	}
	if _, err := w.bridge.ask(ctx, request{Do: "close"}); err != nil {
		return err
	}
	return w.checkHalf(ctx, variants, ids[:half], exact, r)
}

// checkHalf compares the fp16 program with the logits of its float32 twin.
func (w *workspace) checkHalf(ctx context.Context, variants []variant, ids []int32, exact [][]float32, r *Result) error {
	asset := w.sd.Path(w.asset())
	if w.Shape == Static { // the host's buffers cannot be filled from here: run one without constraints
		asset = filepath.Join(w.dir, "half.aimodel")
		ask := w.request("build", asset, "float16")
		ask.Free = true
		if _, err := w.bridge.ask(ctx, ask); err != nil {
			return err
		}
		defer os.RemoveAll(asset)
	}
	rounded, err := w.logitsOf(ctx, asset, "float16", variants, ids)
	if err != nil {
		return err
	}
	for i := range variants {
		c := &r.Check[i]
		c.HalfKL = meanKL(exact[i][:len(ids)*w.vocab], rounded[i], w.vocab)
		if !(c.HalfKL <= maxHalfKL) {
			return fault.Infeasiblef("%s: the fp16 program diverges from its float32 twin by %.2g nats a token; %.2g is allowed", c.Function, c.HalfKL, maxHalfKL).
				WithHint("Core AI computes in fp16, which this model may not bear; --check-tokens 0 exports it without the comparison")
		}
		if c.HalfKL > usualHalfKL {
			r.Warnings = append(r.Warnings, fmt.Sprintf("%s: the fp16 program diverges from its float32 twin by %.2g nats a token; small models have less than %.2g. Core AI's reference runtime sums in fp16, hardware may not",
				c.Function, c.HalfKL, usualHalfKL))
		}
	}
	_, err = w.bridge.ask(ctx, request{Do: "close"})
	return err
}

// label names a variant for people.
func (w *workspace) label(v variant) string {
	name := v.function
	if w.Shape == Static {
		name += "extend"
	}
	if v.adapter != "" {
		name += " with " + v.adapter
	}
	return name
}

// halfTokens is the number of tokens that the fp16 program is run on.
func (w *workspace) halfTokens(m *infer.Model, tokens int) int {
	return max(1, min(tokens, int(halfBudget/float64(m.ForwardWork()+m.HeadWork()))))
}

// readTexts reads the texts that the program is run on and checks that the reference has the
// artifact's vocabulary, before anything takes time.
func (e *exporter) readTexts() error {
	tok, err := tokenizer.Load(filepath.Join(e.Artifact, artifact.TokenizerFile))
	if err != nil {
		return err
	}
	e.text = checkText(tok, e.CheckTokens)
	if e.CheckData == "" {
		return nil
	}
	corpus, err := eval.ReadCorpus(e.CheckData, tok, e.s.Config.Separator())
	if err != nil {
		return err
	}
	if e.corpus = corpus.IDs; len(e.corpus) < 2 {
		return fault.Inputf(e.CheckData, "has fewer than 2 tokens")
	}
	if e.Reference == "" {
		return nil
	}
	cfg, err := model.LoadConfig(e.Reference)
	if err != nil {
		return err
	}
	if cfg.VocabSize != e.s.Config.VocabSize {
		return fault.Inputf(e.Reference, "has %d tokens in its vocabulary, the artifact %d", cfg.VocabSize, e.s.Config.VocabSize)
	}
	return nil
}

// checkText returns the first tokens of the built-in calibration text, none if n is not positive.
func checkText(tok *tokenizer.Tokenizer, n int) []int32 {
	var ids []int32
	for _, text := range calibration.Texts() {
		if len(ids) >= n {
			break
		}
		ids = append(ids, tok.Encode(text, false).IDs...)
	}
	return ids[:max(0, min(n, len(ids)))]
}

// logitsOf opens an asset and runs each variant on the tokens: the dynamic shape in two calls, so
// that the second one reads the caches.
func (w *workspace) logitsOf(ctx context.Context, asset, precision string, variants []variant, ids []int32) ([][]float32, error) {
	open := w.request("open", asset, precision)
	if _, err := w.bridge.ask(ctx, open); err != nil {
		return nil, err
	}
	var out [][]float32
	for _, v := range variants {
		if err := w.reset(ctx, len(ids)); err != nil {
			return nil, err
		}
		first := len(ids) * 5 / 8
		if w.Shape == Static {
			first = len(ids) / 8 * 8
		}
		var y []float32
		for at, end := 0, first; at < len(ids); at, end = end, len(ids) {
			if at == end {
				continue
			}
			part, err := w.bridge.logits(ctx, request{Function: v.function, Adapter: v.adapter, IDs: ids[at:end], Position: at}, w.vocab)
			if err != nil {
				return nil, err
			}
			y = append(y, part...)
			w.Progress.Advance(int64((end - at) * map[string]int{"float32": 1, "float16": 10}[precision]))
		}
		out = append(out, y)
	}
	return out, nil
}

// reset begins a text of so many tokens. Only a dynamic program has caches of its length.
func (w *workspace) reset(ctx context.Context, tokens int) error {
	r := request{Do: "reset"}
	if w.Shape == Dynamic {
		r.Context = tokens
	}
	_, err := w.bridge.ask(ctx, r)
	return err
}

// engineLogits returns the logits of the engine, [tokens, vocab].
func (w *workspace) engineLogits(m *infer.Model, ids []int32) []float32 {
	r := m.NewRunner(w.pool)
	out := make([]float32, len(ids)*m.Config.VocabSize)
	r.Logits(out, r.Forward([]infer.Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}}), len(ids))
	return out
}

// largestDifference returns the largest difference of two elements; NaN if one is NaN.
func largestDifference(got, want []float32) float64 {
	most := 0.0
	for i, x := range want {
		most = max(most, math.Abs(float64(got[i])-float64(x))) // the built-in max of NaN is NaN
	}
	return most
}

func rootMeanSquare(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(len(x)))
}

// meanKL returns the mean over tokens of the divergence of q from p.
func meanKL(p, q []float32, vocab int) float64 {
	sum, n := 0.0, len(p)/vocab
	for i := range n {
		a, b := p[i*vocab:(i+1)*vocab], q[i*vocab:(i+1)*vocab]
		sum += kernel.KL(a, b, kernel.LogSumExp(a), kernel.LogSumExp(b))
	}
	return sum / float64(n)
}

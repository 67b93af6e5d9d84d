package gate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

func ptr[T any](x T) *T { return &x }

// evaluation has these windows; kl may be nil.
func evaluation(tokens []int, nats, kl []float64) *eval.Result {
	e := &eval.Result{}
	sum, sumKL := 0.0, 0.0
	for i, n := range tokens {
		w := eval.WindowScore{Tokens: n, Nats: nats[i]}
		sum += float64(n) * nats[i]
		if kl != nil {
			w.KL = &kl[i]
			sumKL += float64(n) * kl[i]
		}
		e.Tokens += n
		e.Windows = append(e.Windows, w)
	}
	e.NatsPerToken = sum / float64(e.Tokens)
	if kl != nil {
		e.Comparison = &eval.Comparison{KL: eval.Divergence{Mean: sumKL / float64(e.Tokens)}}
	}
	return e
}

var hex64 = strings.Repeat("0123456789abcdef", 4)

func setting(reference bool) Setting {
	s := Setting{Data: hex64, Tokenizer: hex64, Protocol: eval.Chunk, Ctx: 64, Compute: "f32"}
	if reference {
		s.Reference = &hex64
	}
	return s
}

func baseline(t *testing.T, e *eval.Result) *Baseline {
	t.Helper()
	b, err := NewBaseline("text", "test", setting(e.Comparison != nil), Subject{Kind: "artifact", Digest: hex64, Bytes: 1001, BPW: ptr(3.75)}, e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	tokens  = []int{63, 63, 63, 63, 63, 63, 63, 63, 20}
	before  = []float64{3.1, 2.9, 3.5, 3.0, 3.2, 3.3, 2.8, 3.1, 2.7}
	after   = []float64{3.2, 2.95, 3.6, 3.1, 3.28, 3.42, 2.9, 3.2, 3.0}
	beforeK = []float64{0.02, 0.03, 0.01, 0.02, 0.02, 0.03, 0.01, 0.02, 0.02}
	afterK  = []float64{0.03, 0.04, 0.03, 0.03, 0.03, 0.05, 0.02, 0.03, 0.01}
)

// The rises are those of the paired differences, of losses and of divergences each.
func TestJudgeByDefinition(t *testing.T) {
	v, err := Judge("base", baseline(t, evaluation(tokens, before, beforeK)), baseline(t, evaluation(tokens, after, afterK)), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		got       *Interval
		now, then []float64
	}{{"nats", v.Nats, after, before}, {"kl", v.KL, afterK, beforeK}} {
		var sum, weight float64
		for i, n := range tokens {
			sum += float64(n) * (c.now[i] - c.then[i])
			weight += float64(n)
		}
		mean, variance := sum/weight, 0.0
		for _, batch := range [][]int{{0, 1}, {2, 3}, {4, 5}, {6, 7, 8}} {
			of := 0.0
			for _, i := range batch {
				of += float64(tokens[i]) / weight * (c.now[i] - c.then[i] - mean)
			}
			variance += 4.0 / 3.0 * of * of
		}
		half := 3.182446305284263 * math.Sqrt(variance) // t of 3 degrees of freedom at 0.975
		for _, x := range [][2]float64{{c.got.Mean, mean}, {c.got.SE, math.Sqrt(variance)}, {c.got.Low, mean - half}, {c.got.High, mean + half}} {
			if math.Abs(x[0]-x[1]) > 1e-12 {
				t.Errorf("%s: %v; expected %v", c.name, x[0], x[1])
			}
		}
		if c.got.Windows != 9 || c.got.Batches != 4 || c.got.Confidence != 0.95 {
			t.Errorf("%s: %+v", c.name, c.got)
		}
	}
}

// A limit is kept if the upper end is at most the limit, exceeded if the lower end is above
// it, and undecided between.
func TestJudgeLimits(t *testing.T) {
	base, now := baseline(t, evaluation(tokens, before, beforeK)), baseline(t, evaluation(tokens, after, afterK))
	v, err := Judge("base", base, now, Limits{KLRise: ptr(1.0), KL: ptr(1.0)})
	if err != nil {
		t.Fatal(err)
	}
	nats, rise, kl := v.Nats, v.KL, v.Checks[2].Interval
	if nats.Low < 0.02 || rise.Low <= 0 || kl.Low <= 0 || nats.High-nats.Low < 1e-3 {
		t.Fatalf("the fixture is too weak: %+v, %+v, %+v", nats, rise, kl)
	}
	const much = 9
	for _, c := range []struct {
		name    string
		limits  Limits
		checks  int
		want    Outcome
		message string // of the last check
	}{
		{"the default margin", Limits{}, 1, Worse, "loss changed by +0.1016"},
		{"loss at the upper end", Limits{Nats: nats.High}, 1, NoWorse, "nats per token (95 % interval +0.0"},
		{"loss below the upper end", Limits{Nats: nats.High - 1e-9}, 1, Inconclusive, "would show it no worse if the mean stays the same"},
		{"loss at the mean", Limits{Nats: nats.Mean}, 1, Inconclusive, "more text would hardly decide it"},
		{"loss at the lower end", Limits{Nats: nats.Low}, 1, Inconclusive, "would show it worse if the mean stays the same"},
		{"loss below the lower end", Limits{Nats: nats.Low - 1e-9}, 1, Worse, "9 windows in 4 batches); the limit is 0.0"},
		{"divergence at the upper end", Limits{Nats: much, KLRise: &rise.High}, 2, NoWorse, "divergence from the reference changed by +0."},
		{"divergence between", Limits{Nats: much, KLRise: &rise.Mean}, 2, Inconclusive, ""},
		{"divergence below the lower end", Limits{Nats: much, KLRise: ptr(rise.Low * 0.99)}, 2, Worse, ""},
		{"mean divergence at the upper end", Limits{Nats: much, KL: &kl.High}, 2, NoWorse, "mean divergence from the reference is 0.0"},
		{"mean divergence at its mean", Limits{Nats: much, KL: &now.NatsPerToken}, 2, NoWorse, ""},
		{"mean divergence between", Limits{Nats: much, KL: now.KLMean}, 2, Inconclusive, ""},
		{"mean divergence below the lower end", Limits{Nats: much, KL: ptr(kl.Low * 0.99)}, 2, Worse, ""},
		{"bytes at the limit", Limits{Nats: much, Bytes: ptr(int64(1001))}, 2, NoWorse, ""},
		{"bytes above", Limits{Nats: much, Bytes: ptr(int64(1000))}, 2, Worse, "has 1001 bytes; the limit is 1000"},
		{"bits at the limit", Limits{Nats: much, BPW: ptr(3.75)}, 2, NoWorse, ""},
		{"bits above", Limits{Nats: much, BPW: ptr(3.7)}, 2, Worse, "3.7500 bits per weight; the limit is 3.7"},
	} {
		v, err := Judge("base", base, now, c.limits)
		if err != nil {
			t.Fatal(err)
		}
		last := v.Checks[len(v.Checks)-1]
		if len(v.Checks) != c.checks || v.Outcome != c.want || last.Outcome != c.want || v.Passed != (c.want == NoWorse) || last.Passed != v.Passed || !strings.Contains(last.Message, c.message) {
			t.Errorf("%s: %+v", c.name, v)
		}
		if v.Passed != (len(v.Failures()) == 0) {
			t.Errorf("%s: failures %v", c.name, v.Failures())
		}
		if (last.Needed != nil) && c.want != Inconclusive {
			t.Errorf("%s: decided, and yet needs %+v", c.name, last.Needed)
		}
	}
	// What is worse outranks what is undecided, and is named first.
	v, err = Judge("base", base, now, Limits{Nats: nats.Mean, Bytes: ptr(int64(1))})
	if err != nil || v.Outcome != Worse || len(v.Failures()) != 2 || !strings.Contains(v.Failures()[0], "bytes") {
		t.Errorf("%+v, %v", v, err)
	}
	// Without a baseline there are the other limits only.
	v, err = Judge("", nil, now, Limits{Bytes: ptr(int64(1000))})
	if err != nil || v.Outcome != Worse || len(v.Checks) != 1 || v.Nats != nil {
		t.Errorf("%+v, %v", v, err)
	}
}

// The same model passes; noise around no change does not pass on so little text.
func TestJudgeOfEqual(t *testing.T) {
	base := baseline(t, evaluation(tokens, before, nil))
	v, err := Judge("base", base, base, Limits{})
	if err != nil || v.Outcome != NoWorse || v.Nats.Mean != 0 || v.KL != nil {
		t.Errorf("%+v, %v", v, err)
	}
	noisy := []float64{3.2, 2.8, 3.6, 2.9, 3.1, 3.35, 2.9, 3.0, 2.8}
	v, err = Judge("base", base, baseline(t, evaluation(tokens, noisy, nil)), Limits{})
	if err != nil || v.Outcome != Inconclusive {
		t.Errorf("%+v, %v", v, err)
	}
}

// A model that is worse by exactly the margin passes once in forty times, and one that is
// much worse never for lack of text. The rise of 0.37 with its variability is that of 2
// bits against 4 bits on prose.
func TestWorseModelsDoNotPass(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	judge := func(n int, mean, sd float64) Outcome {
		w, then, now := make([]int, n), make([]float64, n), make([]float64, n)
		for i := range w {
			w[i], then[i] = 255, 3+0.3*r.NormFloat64()
			now[i] = then[i] + mean + sd*r.NormFloat64()
		}
		v, err := Judge("b", baseline(t, evaluation(w, then, nil)), baseline(t, evaluation(w, now, nil)), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return v.Outcome
	}
	const trials = 1000
	for _, n := range []int{8, 20, 100} {
		atMargin, better, much := 0, 0, 0
		for range trials {
			if judge(n, DefaultNats, 0.02) == NoWorse {
				atMargin++
			}
			if judge(n, -DefaultNats, 0.02) == Worse {
				better++
			}
			if judge(n, 0.37, 0.1) != Worse {
				much++
			}
		}
		// 2.5 % of the trials and four standard deviations of the count.
		if atMargin > 45 || atMargin < 8 || better > 3 || much > trials/100 {
			t.Errorf("%d windows, %d trials: at the margin %d passed, %d better ones failed, %d much worse ones did not", n, trials, atMargin, better, much)
		}
	}
}

func TestJudgeRefuses(t *testing.T) {
	base := baseline(t, evaluation(tokens, before, nil))
	short := *base
	short.Windows = short.Windows[:8]
	other := *base
	other.Windows = append(append([]eval.WindowScore{}, base.Windows[:8]...), eval.WindowScore{Tokens: 21, Nats: 3})
	for message, now := range map[string]*Baseline{
		"records 9 windows; the text now gives 8":                     &short,
		"records 20 scored tokens in window 9; the text now gives 21": &other,
	} {
		_, err := Judge("base.json", base, now, Limits{})
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "base.json: "+message) {
			t.Errorf("%s: %v", message, err)
		}
	}
	_, err := Judge("base.json", base, baseline(t, evaluation(tokens, after, afterK)), Limits{KLRise: ptr(0.1)})
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "records no divergence") {
		t.Error(err)
	}
	withKL := baseline(t, evaluation(tokens, before, beforeK))
	for _, l := range []Limits{{Nats: -1}, {Nats: math.NaN()}, {Nats: math.Inf(1)}, {KLRise: ptr(0.0)}, {KL: ptr(0.0)}, {KL: ptr(-1.0)}} {
		if _, err := Judge("base.json", withKL, withKL, l); fault.KindOf(err) != fault.Usage {
			t.Errorf("%+v: %v", l, err)
		}
	}
	// Limits are checked without a baseline, too, and no limit is ignored.
	checkpoint := *base
	checkpoint.Model.BPW = nil
	for _, l := range []Limits{{Nats: -1}, {KLRise: ptr(-1.0)}, {KL: ptr(1.0)}, {KLRise: ptr(1.0)}, {BPW: ptr(4.0)}, {BPW: ptr(math.NaN())}, {Bytes: ptr(int64(-1))}} {
		if _, err := Judge("", nil, &checkpoint, l); fault.KindOf(err) != fault.Usage {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// Text of fewer than eight windows is refused, also where an old baseline recorded it.
func TestTooFewWindows(t *testing.T) {
	for _, n := range []int{2, 7} {
		e := evaluation(tokens[:n], before[:n], nil)
		_, err := NewBaseline("text.txt", "", setting(false), Subject{}, e)
		if want := fmt.Sprintf("text.txt: gives %d of the 8 windows", n); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
		old := *baseline(t, evaluation(tokens, before, nil))
		old.Tokens, old.NatsPerToken, old.Windows = e.Tokens, e.NatsPerToken, e.Windows
		data, err := old.Encode()
		if err != nil {
			t.Fatal(err)
		}
		read, err := ParseBaseline("base.json", data)
		if err != nil {
			t.Fatal(err)
		}
		now := *read
		now.Windows = append([]eval.WindowScore{}, read.Windows...)
		for i := range now.Windows {
			now.Windows[i].Nats += 0.37
		}
		_, err = Judge("base.json", read, &now, Limits{})
		if want := fmt.Sprintf("base.json: %d windows are too few", n); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
}

// A check of perplexity speaks of per cent and computes in nats.
func TestCheckPerplexityRise(t *testing.T) {
	rise := make([]float64, len(tokens))
	for i := range rise {
		rise[i] = math.Log(1.05) + 0.001*float64(i%2)
	}
	c, err := CheckMean(PerplexityRise, tokens, rise, math.Log(1.02))
	if err != nil || c.Outcome != Worse || c.Name != "perplexity_rise" || math.Abs(c.Interval.Mean-math.Log(1.0505)) > 1e-4 {
		t.Errorf("%+v, %v", c, err)
	}
	if !strings.Contains(c.Message, "perplexity changed by +5.05") || !strings.Contains(c.Message, "the limit is 2 %") {
		t.Error(c.Message)
	}
}

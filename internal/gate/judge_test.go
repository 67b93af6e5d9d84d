package gate

import (
	"math"
	"strings"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

func ptr[T any](x T) *T { return &x }

// evaluation is one of these windows; kl may be nil.
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
	b, err := NewBaseline("text", "test", setting(e.Comparison != nil), Subject{Kind: "artifact", Digest: hex64, Bytes: 1000, BPW: ptr(3.5)}, e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	tokens  = []int{63, 63, 63, 20}
	before  = []float64{3.1, 2.9, 3.5, 3.0}
	after   = []float64{3.2, 2.95, 3.6, 3.3}
	beforeK = []float64{0.02, 0.03, 0.01, 0.02}
	afterK  = []float64{0.03, 0.04, 0.03, 0.01}
)

// The rises are those of the definition, of losses and of divergences each.
func TestJudgeByDefinition(t *testing.T) {
	v, err := Judge("base", baseline(t, evaluation(tokens, before, beforeK)), evaluation(tokens, after, afterK), Subject{}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		got       *eval.Interval
		now, then []float64
	}{{"nats", v.Nats, after, before}, {"kl", v.KL, afterK, beforeK}} {
		var sum, weight float64
		for i, n := range tokens {
			sum += float64(n) * (c.now[i] - c.then[i])
			weight += float64(n)
		}
		mean, variance := sum/weight, 0.0
		for i, n := range tokens {
			share := float64(n) / weight
			variance += 4.0 / 3.0 * math.Pow(share*(c.now[i]-c.then[i]-mean), 2)
		}
		half := distuv.StudentsT{Sigma: 1, Nu: 3}.Quantile(0.975) * math.Sqrt(variance)
		for _, x := range [][2]float64{{c.got.Mean, mean}, {c.got.SE, math.Sqrt(variance)}, {c.got.Low, mean - half}, {c.got.High, mean + half}} {
			if math.Abs(x[0]-x[1]) > 1e-12 {
				t.Errorf("%s: %v; expected %v", c.name, x[0], x[1])
			}
		}
		if c.got.Windows != 4 || c.got.Confidence != 0.95 {
			t.Errorf("%s: %+v", c.name, c.got)
		}
	}
}

// Each limit fails above its value and not at it, and says so.
func TestJudgeLimits(t *testing.T) {
	base := baseline(t, evaluation(tokens, before, beforeK))
	e := evaluation(tokens, after, afterK)
	m := Subject{Kind: "artifact", Bytes: 1001, BPW: ptr(3.75)}
	v, err := Judge("base", base, e, m, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	low, lowKL := v.Nats.Low, v.KL.Low
	if low < 0.01 {
		t.Fatalf("the fixture is too weak: lower end %v", low)
	}
	for _, c := range []struct {
		name   string
		limits Limits
		checks int
		fails  string // of the last check
	}{
		{"a rise that is no chance", Limits{}, 1, "loss changed by +0.104067 nats per token (95 % interval"},
		{"a rise below the limit", Limits{Nats: 0.08}, 1, ""},
		{"at the lower end", Limits{Nats: low}, 1, ""},
		{"below the lower end", Limits{Nats: low - 2*Rounding}, 1, "limit"},
		{"within rounding of it", Limits{Nats: low - Rounding/2}, 1, ""},
		{"divergence", Limits{Nats: 1, KLRise: ptr(lowKL)}, 2, ""},
		{"divergence rose", Limits{Nats: 1, KLRise: ptr(lowKL - 1e-4)}, 2, "divergence from the reference changed by"},
		{"mean divergence kept", Limits{Nats: 1, KL: ptr(e.KL.Mean)}, 2, ""},
		{"mean divergence broken", Limits{Nats: 1, KL: ptr(e.KL.Mean * 0.999)}, 2, "mean divergence from the reference is"},
		{"bytes kept", Limits{Nats: 1, Bytes: ptr(int64(1001))}, 2, ""},
		{"bytes broken", Limits{Nats: 1, Bytes: ptr(int64(1000))}, 2, "has 1001 bytes, the limit is 1000"},
		{"bits kept", Limits{Nats: 1, BPW: ptr(3.75)}, 2, ""},
		{"bits broken", Limits{Nats: 1, BPW: ptr(3.7)}, 2, "3.7500 bits per weight, the limit is 3.7"},
		{"all", Limits{KLRise: ptr(1.0), KL: ptr(1.0), Bytes: ptr(int64(1)), BPW: ptr(1.0)}, 5, "bits per weight"},
	} {
		v, err := Judge("base", base, e, m, c.limits)
		if err != nil {
			t.Fatal(err)
		}
		last := v.Checks[len(v.Checks)-1]
		if len(v.Checks) != c.checks || v.Passed != (c.fails == "") || last.Passed != v.Passed || !strings.Contains(last.Message, c.fails) {
			t.Errorf("%s: %+v", c.name, v)
		}
		if v.Passed != (len(v.Failures()) == 0) {
			t.Errorf("%s: failures %v", c.name, v.Failures())
		}
	}
	// Without a baseline there are the other limits only.
	v, err = Judge("", nil, e, m, Limits{Bytes: ptr(int64(1000))})
	if err != nil || v.Passed || len(v.Checks) != 1 || v.Nats != nil {
		t.Errorf("%+v, %v", v, err)
	}
}

// A model that did not change passes, and so does noise around nothing.
func TestJudgeOfEqual(t *testing.T) {
	e := evaluation(tokens, before, nil)
	v, err := Judge("base", baseline(t, e), e, Subject{}, Limits{})
	if err != nil || !v.Passed || v.Nats.Mean != 0 || v.KL != nil {
		t.Errorf("%+v, %v", v, err)
	}
	noisy := []float64{3.2, 2.8, 3.6, 2.9}
	if v, err = Judge("base", baseline(t, e), evaluation(tokens, noisy, nil), Subject{}, Limits{}); err != nil || !v.Passed || v.Nats.High < 0.01 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestJudgeRefuses(t *testing.T) {
	base := baseline(t, evaluation(tokens, before, nil))
	for name, e := range map[string]*eval.Result{
		"records 4 windows; the text now gives 3":                     evaluation(tokens[:3], before[:3], nil),
		"records 20 scored tokens in window 4; the text now gives 21": evaluation([]int{63, 63, 63, 21}, before, nil),
	} {
		_, err := Judge("base.json", base, e, Subject{}, Limits{})
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "base.json: "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := Judge("base.json", base, evaluation(tokens, after, afterK), Subject{}, Limits{KLRise: ptr(0.0)})
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "records no divergence") {
		t.Error(err)
	}
	if _, err := NewBaseline("text.txt", "", setting(false), Subject{}, evaluation(tokens[:1], before, nil)); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "text.txt: gives 1 window") {
		t.Error(err)
	}
}

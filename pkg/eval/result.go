package eval

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"afmq/pkg/fault"
)

// Result is the loss of one model on a text. Nats are natural-log units of −ln p.
type Result struct {
	Protocol     Protocol `json:"protocol"`
	Ctx          int      `json:"ctx"`              // tokens in a window
	Stride       int      `json:"stride,omitempty"` // tokens between the starts of windows; 0 for other protocols than [Stride]
	Tokens       int      `json:"tokens"`           // scored tokens
	NatsPerToken float64  `json:"nats_per_token"`   // mean over the scored tokens
	Perplexity   float64  `json:"perplexity"`       // exp(NatsPerToken)
	// PerplexitySE is perplexity · s/√n, where s is the sample standard deviation of the n
	// tokens' nats: the delta method, with tokens taken as independent.
	PerplexitySE float64 `json:"perplexity_se"`
	// BitsPerByte is the sum of the nats, in bits, over the UTF-8 bytes of the scored tokens.
	// It compares models with different tokenizers; 0 if the tokens have no text.
	BitsPerByte float64 `json:"bits_per_byte"`

	*Comparison // nil without a reference

	// Seconds is the time of the passes of the model and of its reference. The reference's
	// pass counts in every result of [ScoreAll], whose models share it.
	Seconds         float64 `json:"seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"` // tokens run through model and reference, per second: with a reference each counts twice
	// OwnSeconds and OwnTokensPerSecond are those of the model's passes, without the reference's.
	OwnSeconds         float64 `json:"-"`
	OwnTokensPerSecond float64 `json:"-"`

	// Windows has the scores of each window with scored tokens, in the order of the text.
	Windows []WindowScore `json:"-"`
}

// Comparison compares a model with a reference, token by token.
type Comparison struct {
	KL                  Divergence `json:"kl"`                   // KL(reference ‖ model), nats per token
	SameTop1            float64    `json:"same_top1"`            // share of tokens at which both have the same most likely token
	DeltaPRMS           float64    `json:"delta_p_rms"`          // root mean square difference of the probability of the text's token
	ReferencePerplexity float64    `json:"reference_perplexity"` //
	PerplexityRatio     float64    `json:"perplexity_ratio"`     // model over reference
	Reference           *Result    `json:"-"`                    // of the reference itself; the results of [ScoreAll] share it
}

// Divergence summarizes the Kullback-Leibler divergence at the scored tokens, in nats.
// Percentiles interpolate linearly between the nearest ranks.
type Divergence struct {
	Mean   float64 `json:"mean"`
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	P999   float64 `json:"p999"`
	Max    float64 `json:"max"`
}

// result summarizes the scores of one model, with those of the reference if there is one; ref is
// the result of the reference.
func (e *evaluator) result(m *modelScores, ref *Result, windows []window) (*Result, error) {
	r, err := e.alone(m)
	if err != nil {
		return nil, err
	}
	var refNats []float64
	if ref != nil {
		refNats = e.reference.nats
		r.Comparison = &Comparison{
			KL:                  divergence(m.kl),
			SameTop1:            float64(m.sameTop1) / float64(len(m.nats)),
			DeltaPRMS:           math.Sqrt(m.deltaP2 / float64(len(m.nats))),
			ReferencePerplexity: ref.Perplexity,
			PerplexityRatio:     math.Exp(r.NatsPerToken - ref.NatsPerToken),
			Reference:           ref,
		}
		r.Seconds += ref.Seconds
		r.TokensPerSecond = 2 * float64(e.tokens) / r.Seconds
	}
	r.Windows = windowScores(windows, m.nats, refNats, m.kl)
	return r, nil
}

// alone summarizes the scores of one model without the reference and the windows.
func (e *evaluator) alone(m *modelScores) (*Result, error) {
	mean, sd := meanSD(m.nats)
	n := float64(len(m.nats))
	r := &Result{
		Protocol: e.opts.Protocol, Ctx: e.opts.Ctx, Stride: e.opts.Stride,
		Tokens: len(m.nats), NatsPerToken: mean, Perplexity: math.Exp(mean), Seconds: m.seconds, OwnSeconds: m.seconds,
	}
	r.PerplexitySE = r.Perplexity * sd / math.Sqrt(n)
	if e.bytes > 0 {
		r.BitsPerByte = mean * n / math.Ln2 / float64(e.bytes)
	}
	r.TokensPerSecond = float64(e.tokens) / r.Seconds
	r.OwnTokensPerSecond = r.TokensPerSecond
	if !finite(r.Perplexity) || !finite(r.PerplexitySE) {
		return nil, fault.Inputf(m.model.Dir, "a loss of %v nats per token on %s is too large for a perplexity", mean, e.corpus.File)
	}
	return r, nil
}

// ofReference returns the result of the reference itself; nil without one.
func (e *evaluator) ofReference(windows []window) (*Result, error) {
	if e.reference == nil {
		return nil, nil
	}
	r, err := e.alone(&e.reference.modelScores)
	if err == nil {
		r.Windows = windowScores(windows, e.reference.nats, nil, nil)
	}
	return r, err
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// meanSD returns the mean and the sample standard deviation, 0 for one value.
func meanSD(x []float64) (mean, sd float64) {
	if len(x) == 1 {
		return x[0], 0
	}
	return stat.MeanStdDev(x, nil)
}

func divergence(kl []float64) Divergence {
	mean, _ := meanSD(kl)
	sorted := slices.Sorted(slices.Values(kl))
	at := func(q float64) float64 {
		f := q * float64(len(sorted)-1)
		i := int(f)
		if i+1 >= len(sorted) {
			return sorted[len(sorted)-1]
		}
		return sorted[i] + (f-float64(i))*(sorted[i+1]-sorted[i])
	}
	return Divergence{Mean: mean, Median: at(0.5), P99: at(0.99), P999: at(0.999), Max: sorted[len(sorted)-1]}
}

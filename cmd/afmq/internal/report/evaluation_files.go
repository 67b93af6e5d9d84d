package report

import (
	"errors"
	"fmt"
	"math"

	"afmq/internal/infile"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/gate"
)

// evalSchema is the supported version of an evaluation.
const evalSchema = "afmq.eval/v1"

const maxEvalBytes = 4 << 20

// evalFile has the keys of `afmq eval-perplexity --json` that a report uses. Unknown keys are
// ignored, because a version may gain keys.
type evalFile struct {
	file      string
	Schema    string         `json:"schema"`
	Model     string         `json:"model"`
	Data      string         `json:"data"`
	Reference *string        `json:"reference"`
	Identity  *eval.Identity `json:"identity"` // nil in files of former versions
	Compute   string         `json:"compute"`
	// ReferenceCompute is nil without a reference.
	ReferenceCompute *string `json:"reference_compute"`
	*eval.Result
	intervals
	Overlap  *eval.Overlap `json:"calibration_overlap"`
	Adapters []evalAdapter `json:"adapters"`
	Gate     *evalGate     `json:"gate"` // nil without limits
}

// intervals are the confidence intervals of a comparison; nil where there is none.
type intervals struct {
	KLInterval   *gate.Interval `json:"kl_interval"`        // of the divergence, nats per token
	LossInterval *gate.Interval `json:"loss_rise_interval"` // of the loss less the reference's, nats per token
}

type evalAdapter struct {
	Name     string               `json:"name"`
	Path     string               `json:"path"`
	Identity eval.AdapterIdentity `json:"identity"`
	*eval.Result
	intervals
}

// evalGate is the verdict on the limits of an evaluation.
type evalGate struct {
	Outcome gate.Outcome `json:"outcome"`
	Checks  []struct {
		Adapter string `json:"adapter"`
		gate.Check
	} `json:"checks"`
}

func readEval(file string) (*evalFile, error) {
	data, err := infile.ReadBounded(file, maxEvalBytes)
	if err != nil {
		return nil, err
	}
	return parseEval(file, data)
}

// parseEval parses and checks an evaluation. Errors are of kind fault.Input and name file.
func parseEval(file string, data []byte) (*evalFile, error) {
	bad := func(format string, args ...any) (*evalFile, error) {
		return nil, fault.Inputf(file, "is not an evaluation: "+format, args...)
	}
	e := &evalFile{file: file}
	if err := parseObject(data, evalSchema, e); err != nil {
		return bad("%v", err)
	}
	if e.Model == "" || e.Data == "" {
		return bad("model or data is missing")
	}
	if e.Identity == nil {
		return nil, fault.Inputf(file, "does not say by content what it evaluated: a former version made it").
			WithHint("evaluate again with this version; a path alone does not prove which model was evaluated")
	}
	if e.Compute == "" {
		e.Compute = "f32"
	}
	if err := e.checkIdentity(); err != nil {
		return bad("%v", err)
	}
	if err := checkEvaluation(e.Result, &e.intervals); err != nil {
		return bad("%v", err)
	}
	if err := e.checkGate(); err != nil {
		return bad("gate: %v", err)
	}
	for _, a := range e.Adapters {
		if err := checkEvaluation(a.Result, &a.intervals); err != nil {
			return bad("adapter %.80q: %v", a.Name, err)
		}
		if err := checkAdapter(&a.Identity); err != nil {
			return bad("adapter %.80q: %v", a.Name, err)
		}
		if a.Protocol != e.Protocol || a.Ctx != e.Ctx || a.Stride != e.Stride || a.Tokens != e.Tokens || a.Name == "" {
			return bad("adapter %.80q was evaluated in another setting", a.Name)
		}
	}
	return e, nil
}

// checkGate refuses a verdict that does not follow from its checks, or that has one on a model that
// was not evaluated.
func (e *evalFile) checkGate() error {
	if e.Gate == nil {
		return nil
	}
	names := map[string]bool{"": true}
	for _, a := range e.Adapters {
		names[a.Name] = true
	}
	checks := make([]gate.Check, len(e.Gate.Checks))
	for i, c := range e.Gate.Checks {
		if checks[i] = c.Check; !names[c.Adapter] {
			return fmt.Errorf("the check %.40q is on adapter %.80q, which was not evaluated", c.Name, c.Adapter)
		}
	}
	return checkOutcome(e.Gate.Outcome, checks)
}

// checkEvaluation refuses figures that are impossible or contradict each other.
func checkEvaluation(e *eval.Result, iv *intervals) error {
	if e == nil {
		return fmt.Errorf("it has no figures")
	}
	if _, err := eval.ParseProtocol(string(e.Protocol)); err != nil {
		return fmt.Errorf("protocol %.80q is unknown", string(e.Protocol))
	}
	if e.Ctx < 1 || e.Stride < 0 || e.Tokens < 1 {
		return fmt.Errorf("ctx %d, stride %d, %d tokens", e.Ctx, e.Stride, e.Tokens)
	}
	if !(e.Perplexity >= 1) || !near(math.Exp(e.NatsPerToken), e.Perplexity) || !(e.PerplexitySE >= 0) || !(e.BitsPerByte >= 0) {
		return fmt.Errorf("a perplexity of %v ± %v from %v nats per token is impossible", e.Perplexity, e.PerplexitySE, e.NatsPerToken)
	}
	c := e.Comparison
	if c == nil {
		if iv.KLInterval != nil || iv.LossInterval != nil {
			return errors.New("it has intervals without a comparison")
		}
		return nil
	}
	k := c.KL
	if !(k.Mean >= 0 && k.Median >= 0 && k.Median <= k.P99 && k.P99 <= k.P999 && k.P999 <= k.Max && k.Mean <= k.Max) {
		return fmt.Errorf("a divergence of %v on average, %v, %v, %v and %v at most is impossible", k.Mean, k.Median, k.P99, k.P999, k.Max)
	}
	if !(c.ReferencePerplexity >= 1) || !near(c.PerplexityRatio*c.ReferencePerplexity, e.Perplexity) {
		return fmt.Errorf("a perplexity of %v is not %v times the reference's %v", e.Perplexity, c.PerplexityRatio, c.ReferencePerplexity)
	}
	if !(c.SameTop1 >= 0 && c.SameTop1 <= 1) || !(c.DeltaPRMS >= 0 && c.DeltaPRMS <= 1) {
		return fmt.Errorf("shares of %v and %v are impossible", c.SameTop1, c.DeltaPRMS)
	}
	if err := checkInterval("divergence", iv.KLInterval, k.Mean); err != nil {
		return err
	}
	return checkInterval("rise of the loss", iv.LossInterval, math.Log(c.PerplexityRatio))
}

// checkInterval refuses an interval that does not belong to a mean.
func checkInterval(what string, iv *gate.Interval, mean float64) error {
	if iv == nil {
		return nil
	}
	if math.Abs(iv.Mean-mean) > 1e-6*max(1, math.Abs(mean)) || !(iv.Low <= iv.Mean && iv.Mean <= iv.High) || iv.Confidence != gate.Confidence || iv.Windows < gate.MinWindows {
		return fmt.Errorf("an interval of %v to %v for a %s of %v is impossible", iv.Low, iv.High, what, mean)
	}
	return nil
}

package gate

import (
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// Options are the options of [Run]. Artifact, Baseline and Data are required.
type Options struct {
	Artifact  string        // directory of the artifact, or of a checkpoint
	Baseline  string        // file with the recorded figures; see [Baseline]
	Data      string        // file of text; see [eval.ReadTexts]
	Reference string        // directory of the 16-bit checkpoint to measure the divergence from; empty for none
	Adapter   *eval.Adapter // judge the model with this adapter; nil for none
	Limits    Limits

	// Update records the baseline if the limits are kept and the model is no worse than the
	// baseline that is there, if any: in its loss and, if both have one, in its divergence,
	// whose margin is that of the loss unless Limits.KLRise is set. A baseline with a
	// divergence cannot be replaced by one without. AcceptWorse replaces it in any case.
	Update, AcceptWorse bool

	AllowUnbound bool // take an adapter that does not name the artifact that it was trained on
	AllowOverlap bool // score a file that the artifact was calibrated on, or the adapter trained on

	// Where these are zero, they are those of the baseline; without one, the defaults of
	// [eval.ScoreOptions].
	Protocol eval.Protocol
	Ctx      int
	Stride   int

	Arithmetic  compute.Arithmetic // of the matrix products, in place of that of Pool
	ToolVersion string             // recorded in the baseline; empty for "unknown"

	Pool     *compute.Pool     // nil for Threads workers of its own
	Threads  int               // where Pool is nil; 0 for all cores
	Progress progress.Reporter // nil for none
}

// Stages returns the stages of Run, for the job that it is part of.
func (o *Options) Stages() []string {
	var stages []string
	if o.Reference != "" {
		stages = append(stages, artifact.StageHash)
	}
	if artifact.IsArtifact(o.Artifact) {
		stages = append(stages, artifact.StageVerify)
	} else {
		stages = append(stages, artifact.StageHash)
	}
	stages = append(stages, infer.StageLoad)
	if o.Reference != "" {
		stages = append(stages, infer.StageLoad)
	}
	return append(stages, eval.StageEvaluate)
}

// Result is the result of [Run].
type Result struct {
	Updated bool `json:"updated"` // the baseline was written
	// Accepted: AcceptWorse replaced a baseline that the model was not shown to be no worse
	// than.
	Accepted bool `json:"accepted"`
	*Verdict
	Setting Setting `json:"setting"`
	Model   Subject `json:"model"`
	Tokens  int     `json:"tokens"`  // scored
	Windows int     `json:"windows"` // of the text

	NatsPerToken float64  `json:"nats_per_token"`
	KLMean       *float64 `json:"kl_mean"` // nats per token; nil without a reference
	// Those of the baseline that it was compared with; nil without one.
	BaselineNats *float64 `json:"baseline_nats_per_token"`
	BaselineKL   *float64 `json:"baseline_kl_mean"`

	Overlap         *eval.Overlap `json:"calibration_overlap"` // nil if no calibration text is recorded
	Training        *eval.Overlap `json:"training_overlap"`    // with the text that the adapter was trained on; nil without an adapter
	Seconds         float64       `json:"seconds"`             // of the evaluation
	TokensPerSecond float64       `json:"tokens_per_second"`

	// Decision is the outcome that the caller acts on: that of all checks, or with
	// AcceptWorse that of the checks that do not compare with a baseline.
	Decision Outcome `json:"-"`
	// Kept: Decision kept the baseline that was there from being replaced, although the
	// limits are kept.
	Kept     bool     `json:"-"`
	Warnings []string `json:"-"` // one line each, for people

	deciding []Check // that Decision follows from
}

// Failures returns the messages of the checks that decided against the model, those of
// [Worse] first.
func (r *Result) Failures() []string {
	return (&Verdict{Checks: r.deciding}).Failures()
}

package compare

import (
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/gate"
	"afmq/pkg/lmeval"
)

// Result is the result of [Run].
type Result struct {
	DataSHA256 string        `json:"data_sha256"` // of the text's file
	Protocol   eval.Protocol `json:"protocol"`
	Ctx        int           `json:"ctx"`              // tokens in a window
	Stride     int           `json:"stride,omitempty"` // of protocol stride
	Tokens     int           `json:"tokens"`           // scored
	Windows    int           `json:"windows"`          // of the text
	Compute    string        `json:"compute"`          // arithmetic of all models
	Reference  *string       `json:"reference"`        // name of its row, which is the first; nil without one
	// Quantity is what candidates are ranked by.
	Quantity   Quantity `json:"quantity"`
	Confidence float64  `json:"confidence"` // that all pairs hold together
	Models     []Row    `json:"models"`     // the reference, then each candidate, followed by its adapters
	Pairs      []Pair   `json:"pairs"`      // of candidates, in the order of the rows
	// Best has an entry for every size of a candidate, ascending.
	Best  []Best   `json:"best"`
	Front []string `json:"front"` // candidates that are not dominated, by size

	Warnings []string `json:"-"` // one line each, for people
}

// Quantity is what candidates are ranked by, in nats per token. Less is better.
type Quantity string

const (
	ByKL   Quantity = "kl"   // mean divergence from the reference
	ByLoss Quantity = "nats" // mean loss on the text: the logarithm of perplexity
)

// Row is one model, with or without an adapter.
type Row struct {
	Name      string             `json:"name"`
	Path      string             `json:"path"`
	Adapter   *Adapter           `json:"adapter"`  // nil without one
	Identity  eval.ModelIdentity `json:"identity"` // of the model without the adapter
	Tokenizer string             `json:"tokenizer"`
	// Bytes is the size of what is shipped: all files of weights, that of the adapter included.
	Bytes        int64                  `json:"bytes"`
	BPW          artifact.BitsPerWeight `json:"bpw"`
	NatsPerToken float64                `json:"nats_per_token"`
	Perplexity   float64                `json:"perplexity"`
	PerplexitySE float64                `json:"perplexity_se"` // see [eval.Result]
	BitsPerByte  float64                `json:"bits_per_byte"`
	Divergence   *Divergence            `json:"divergence"` // from the reference; nil without one, and for the reference itself
	Seconds      float64                `json:"seconds"`    // of its own passes over the text
	Speed        float64                `json:"tokens_per_second"`
	Overlap      *eval.Overlap          `json:"calibration_overlap"` // of the text with that of its calibration; nil if it records none
	Tasks        *Tasks                 `json:"tasks"`               // nil without results

	Standing Standing `json:"standing"`
	// DominatedBy are the candidates that are no larger and shown to be better.
	DominatedBy []string `json:"dominated_by"`
	// NotShownBetterThan are the candidates that are no larger and not distinguishable.
	NotShownBetterThan []string `json:"not_shown_better_than"`

	windows []eval.WindowScore
}

// Standing is what the comparison says of a row.
type Standing string

const (
	IsReference Standing = "reference"
	OnFront     Standing = "front"     // no candidate dominates it
	IsDominated Standing = "dominated" // another candidate is no larger and shown to be better
)

// Adapter is the adapter of a row.
type Adapter struct {
	Name     string               `json:"name"`
	Path     string               `json:"path"`
	Identity eval.AdapterIdentity `json:"identity"`
}

// Divergence compares a row with the reference.
type Divergence struct {
	KL              eval.Divergence `json:"kl"`                 // KL(reference ‖ model), nats per token
	KLInterval      *gate.Interval  `json:"kl_interval"`        // of its mean; nil with fewer than 8 windows
	LossRise        *gate.Interval  `json:"loss_rise_interval"` // of the loss less the reference's; nil with fewer than 8 windows
	SameTop1        float64         `json:"same_top1"`
	DeltaPRMS       float64         `json:"delta_p_rms"`
	PerplexityRatio float64         `json:"perplexity_ratio"`
}

// Tasks are results of lm-evaluation-harness.
type Tasks struct {
	File    string         `json:"file"`
	SHA256  string         `json:"sha256"` // of the file
	Version string         `json:"lm_eval_version"`
	Scores  []lmeval.Score `json:"scores"`
}

// Pair compares two candidates window by window.
type Pair struct {
	A string `json:"a"`
	B string `json:"b"`
	// Difference is the mean of the quantity of B less that of A, with the interval that makes all
	// pairs hold together; nil where the text allows none: it has fewer than [MinWindows]
	// windows or repeats itself.
	Difference *gate.Interval `json:"difference"`
	// Better is the one that is shown to be better; nil if the two are not distinguishable.
	Better *string `json:"better"`
}

// Best are the best candidates up to a size.
type Best struct {
	MaxBytes int64 `json:"max_bytes"`
	// Models are the one with the least mean, and then those that are not distinguishable from it.
	Models []string `json:"models"`
}

// Row returns the row of a name; nil if there is none.
func (r *Result) Row(name string) *Row {
	for i := range r.Models {
		if r.Models[i].Name == name {
			return &r.Models[i]
		}
	}
	return nil
}

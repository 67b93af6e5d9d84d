package recovery

import (
	"encoding/json"

	"afmq/pkg/artifact"
)

// Schema is the version of recovery.json.
const Schema = "afmq.recovery/v1"

// Files in the directory that [Run] makes, beside those of the adapters.
const (
	RecordFile  = "recovery.json"
	MetricsFile = artifact.MetricsFile
	LossPlot    = "loss.svg"
	CurvePlot   = "curve.svg" // with more than one rank
)

// AdapterResult is one adapter and what it recovered. Its figures are of the validation text,
// which chose the step; those of Test are of text that chose nothing.
type AdapterResult struct {
	Rank   int    `json:"rank"`
	Path   string `json:"path"`   // directory of the best state, relative to the output directory
	Last   string `json:"last"`   // directory of the last state
	Bytes  int64  `json:"bytes"`  // size of its adapter_model.safetensors
	Params int64  `json:"params"` // values in it
	Tokens int64  `json:"tokens"` // trained on
	Step   int64  `json:"step"`   // of the best state; 0 is the init
	// ModuleRanks has the rank of every module, where they were allocated.
	ModuleRanks map[string]int `json:"module_ranks,omitempty"`
	// WithAdapter is the bits per weight of the model, adapter included.
	WithAdapter float64 `json:"bpw_with_adapter"`

	// Mean KL(teacher ‖ model) in nats per token: without the adapter, with its initial
	// values, and with its best state. Nil without a teacher.
	KLBefore *float64 `json:"kl_before"`
	KLInit   *float64 `json:"kl_init"`
	KLAfter  *float64 `json:"kl_after"`
	// Recovered is 1 − KLAfter/KLBefore, and 0 where KLBefore is 0.
	Recovered         *float64 `json:"recovered"`
	PerplexityBefore  float64  `json:"perplexity_before"`
	PerplexityInit    float64  `json:"perplexity_init"`
	PerplexityAfter   float64  `json:"perplexity_after"`
	PerplexityTeacher *float64 `json:"perplexity_teacher"` // nil without a teacher

	Test *TestResult `json:"test"` // nil in records of former versions
}

// TestResult has the figures of the best state on the test text, whose documents neither
// trained the adapter nor chose its step. The fields mean what those of [AdapterResult] mean.
type TestResult struct {
	KLBefore          *float64 `json:"kl_before"`
	KLAfter           *float64 `json:"kl_after"`
	Recovered         *float64 `json:"recovered"`
	PerplexityBefore  float64  `json:"perplexity_before"`
	PerplexityAfter   float64  `json:"perplexity_after"`
	PerplexityTeacher *float64 `json:"perplexity_teacher"`
}

// Made says what made the steps after From up to To. The steps of torchrun depend on its processes
// and their device too.
type Made struct {
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	By        string `json:"by"`                  // afmq or torchrun
	Compute   string `json:"compute"`             // arithmetic of the models' products
	Kernels   string `json:"kernels,omitempty"`   // class of the kernels, of afmq
	Processes int    `json:"processes,omitempty"` // of torchrun, on all machines together
	Device    string `json:"device,omitempty"`    // of its processes
	Torch     string `json:"torch,omitempty"`     // version of PyTorch
}

// Record is the content of recovery.json. Equal jobs whose steps afmq made give equal records.
type Record struct {
	Schema           string          `json:"schema"`
	Job              json.RawMessage `json:"job"`            // everything that the result depends on
	Made             []Made          `json:"made,omitempty"` // in order; absent in records of former versions
	Adapters         []AdapterResult `json:"adapters"`
	Steps            int64           `json:"steps"`
	StepTokens       int             `json:"step_tokens"`
	TrainTokens      int             `json:"train_tokens"`      // in the training text
	ValidationTokens int             `json:"validation_tokens"` // scored after every evaluation
	TestTokens       int             `json:"test_tokens"`       // scored once, at the end; 0 in records of former versions
	ExcludedTokens   int             `json:"excluded_tokens"`   // in neither text: near duplicates and partial copies of held-out text, and the gaps beside it
	Notes            []string        `json:"notes,omitempty"`   // what the run approximates for lack of memory, one line each
}

// Result is what [Run] returns.
type Result struct {
	Record
	ResumedSteps    int64   `json:"resumed_steps"`     // made by an earlier, interrupted run
	Seconds         float64 `json:"seconds"`           // wall-clock time
	TokensPerSecond float64 `json:"tokens_per_second"` // trained on, all adapters together, evaluation included
	PeakRSSBytes    int64   `json:"peak_rss_bytes"`    // largest resident memory; 0 where the system does not say

	Warnings []string `json:"-"` // one line each, for people
}

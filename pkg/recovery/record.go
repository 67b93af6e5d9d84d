package recovery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// Bounds of what is read back: far beyond what Run writes.
const (
	maxRecordBytes  = 1 << 20
	maxMetricsBytes = 256 << 20
)

// ReadRecord reads what a run says of itself in the directory that it made. Errors are
// fault.Input.
func ReadRecord(dir string) (*Record, error) {
	path := filepath.Join(dir, RecordFile)
	data, err := infile.ReadBounded(path, maxRecordBytes)
	if err != nil {
		return nil, err
	}
	return ParseRecord(path, data)
}

// ParseRecord is ReadRecord of bytes; file is what errors name.
func ParseRecord(file string, data []byte) (*Record, error) {
	r := &Record{}
	if err := parse(data, r); err != nil {
		return nil, fault.Inputf(file, "is not the record of a recovery: %v", err)
	}
	if r.Schema != Schema {
		return nil, fault.Inputf(file, "has schema %q; this version reads %q", r.Schema, Schema)
	}
	if err := r.check(); err != nil {
		return nil, fault.Inputf(file, "%v", err)
	}
	return r, nil
}

// parse decodes one JSON value that may hold nothing unknown. The job of an older record
// has keys in upper case in its rank pattern, which infile.CheckJSON would refuse.
func parse(data []byte, v any) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("has more text after its object")
	}
	return nil
}

func (r *Record) check() error {
	if len(r.Adapters) == 0 {
		return fmt.Errorf("has no adapters")
	}
	if r.Steps < 1 || r.StepTokens < 1 || r.TrainTokens < 0 || r.ValidationTokens < 1 {
		return fmt.Errorf("has %d steps of %d tokens, %d tokens to train on and %d held out", r.Steps, r.StepTokens, r.TrainTokens, r.ValidationTokens)
	}
	seen := map[int]bool{}
	for _, a := range r.Adapters {
		if a.Rank < 1 || seen[a.Rank] {
			return fmt.Errorf("has an adapter of rank %d that is impossible or there twice", a.Rank)
		}
		seen[a.Rank] = true
		if a.Bytes < 0 || a.Params < 0 || a.Tokens < 0 || a.Step < 0 || a.Step > r.Steps {
			return fmt.Errorf("rank %d: has an impossible size or step", a.Rank)
		}
		if !(a.WithAdapter > 0 && a.WithAdapter <= 128) {
			return fmt.Errorf("rank %d: %v bits per weight are impossible", a.Rank, a.WithAdapter)
		}
		for _, p := range []*float64{&a.PerplexityBefore, &a.PerplexityInit, &a.PerplexityAfter, a.PerplexityTeacher} {
			if p != nil && !(*p >= 1) {
				return fmt.Errorf("rank %d: a perplexity of %v is impossible", a.Rank, *p)
			}
		}
		some, all := false, true
		for _, k := range []*float64{a.KLBefore, a.KLInit, a.KLAfter, a.Recovered} {
			some, all = some || k != nil, all && k != nil
		}
		if some != all {
			return fmt.Errorf("rank %d: has only some of the divergences", a.Rank)
		}
		for _, k := range []*float64{a.KLBefore, a.KLInit, a.KLAfter} {
			if k != nil && !(*k >= 0) {
				return fmt.Errorf("rank %d: a divergence of %v is impossible", a.Rank, *k)
			}
		}
	}
	_, err := r.Artifact()
	return err
}

// Artifact returns the content hash of the artifact that the adapters were trained on.
func (r *Record) Artifact() (string, error) {
	var job struct {
		Artifact string `json:"artifact"`
	}
	if err := json.Unmarshal(r.Job, &job); err != nil || job.Artifact == "" {
		return "", fmt.Errorf("its job names no artifact")
	}
	return job.Artifact, nil
}

// Schema is the version of recovery.json.
const Schema = "afmq.recovery/v1"

// Files in the directory that [Run] makes, beside those of the adapters.
const (
	RecordFile  = "recovery.json"
	MetricsFile = "metrics.jsonl"
	LossPlot    = "loss.svg"
	CurvePlot   = "curve.svg" // with more than one rank
)

// AdapterResult is one adapter and what it recovered, on the held-out text.
type AdapterResult struct {
	Rank   int    `json:"rank"`
	Path   string `json:"path"`   // of the state that did best, in the output directory
	Last   string `json:"last"`   // of the last state
	Bytes  int64  `json:"bytes"`  // of its adapter_model.safetensors
	Params int64  `json:"params"` // numbers in it
	Tokens int64  `json:"tokens"` // trained on
	Step   int64  `json:"step"`   // of the state that did best; 0 is the init
	// WithAdapter is bits per weight of the model, the adapter's included.
	WithAdapter float64 `json:"bpw_with_adapter"`

	// Divergence from the teacher, nats per token: without the adapter, with it as it was
	// initialized, and as it was trained. Null without a teacher.
	KLBefore *float64 `json:"kl_before"`
	KLInit   *float64 `json:"kl_init"`
	KLAfter  *float64 `json:"kl_after"`
	// Recovered is the share of the divergence that is gone.
	Recovered         *float64 `json:"recovered"`
	PerplexityBefore  float64  `json:"perplexity_before"`
	PerplexityInit    float64  `json:"perplexity_init"`
	PerplexityAfter   float64  `json:"perplexity_after"`
	PerplexityTeacher *float64 `json:"perplexity_teacher"`
}

// Record is what recovery.json says: what was trained on what, and what came of it. It
// holds nothing that differs from run to run.
type Record struct {
	Schema           string          `json:"schema"`
	Job              json.RawMessage `json:"job"`
	Adapters         []AdapterResult `json:"adapters"`
	Steps            int64           `json:"steps"`
	StepTokens       int             `json:"step_tokens"`
	TrainTokens      int             `json:"train_tokens"`      // in the data, held-out text aside
	ValidationTokens int             `json:"validation_tokens"` // scored
}

// Result is what Run made.
type Result struct {
	Record
	ResumedSteps    int64   `json:"resumed_steps"` // taken over from an interrupted run
	Seconds         float64 `json:"seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"` // trained on, all adapters together, evaluation included
	PeakRSSBytes    int64   `json:"peak_rss_bytes"`
}

package artifact

import (
	"encoding/hex"
	"fmt"
	"slices"
)

// TuningRecord says how the numbers of an artifact were trained after it was quantized: what the
// result depends on, and enough of the text to know it again.
type TuningRecord struct {
	Parent      string   `json:"parent"`       // ContentHash of the artifact before
	Numbers     []string `json:"numbers"`      // kinds of numbers that were trained, as recovery.Numbers names them
	Loss        string   `json:"loss"`         // "kl", "ce" or "mix"
	Mix         float64  `json:"mix"`          // share of the divergence in "mix"
	Temperature float64  `json:"temperature"`  // of both models in the divergence
	Rate        float64  `json:"rate"`         // highest learning rate
	Warmup      float64  `json:"warmup"`       // share of the steps
	Clip        float64  `json:"clip"`         // largest norm of the gradient; 0 for no limit
	SeqLen      int      `json:"seq_len"`      // tokens in a sequence
	BatchTokens int      `json:"batch_tokens"` // in a step, as asked for
	Validation  int      `json:"validation"`   // tokens held out for validation, and as many for test
	Tokens      int64    `json:"tokens"`       // to train on, as asked for
	Step        int64    `json:"step"`         // whose numbers are stored; 0 is before the first
	Seed        int64    `json:"seed"`         // of the order of the text and of what was held out
	Arithmetic  string   `json:"arithmetic"`   // of the models' products
	ToolVersion string   `json:"tool_version"` // of the program
	Files       []string `json:"files"`        // hex SHA-256 of the files of text
	Formats     []string `json:"formats"`      // how each was read: "text", "jsonl" or "tokens"
	// Passages are hashes of the training text, as in [CalibrationRecord].
	Passages []string `json:"passages"`
}

func (t *TuningRecord) check() error {
	if err := checkDigest("tuning.parent", t.Parent); err != nil {
		return err
	}
	for _, f := range t.Files {
		if err := checkDigest("tuning.files", f); err != nil {
			return err
		}
	}
	if err := checkPassages("tuning.passages", t.Passages); err != nil {
		return err
	}
	if len(t.Numbers) == 0 || t.Loss == "" || t.Tokens < 1 || t.Step < 0 || t.SeqLen < 1 || len(t.Formats) != len(t.Files) || t.ToolVersion == "" || t.Arithmetic == "" || len(t.Files) == 0 {
		return fmt.Errorf("tuning is of %d kinds of numbers by loss %q on %d tokens of %d files, up to step %d", len(t.Numbers), t.Loss, t.Tokens, len(t.Files), t.Step)
	}
	return nil
}

func checkPassages(what string, passages []string) error {
	for _, p := range passages {
		if b, err := hex.DecodeString(p); err != nil || len(b) != 8 {
			return fmt.Errorf("%s has %q; expected 16 hexadecimal digits", what, p)
		}
	}
	return nil
}

// Files of a tuned artifact beside those of every artifact: what the tuning was and found, and a line for
// each step, as beside trained adapters.
const (
	TuningFile  = "tuning.json"
	MetricsFile = "metrics.jsonl"
)

// IsTuningFile reports whether a file of an artifact is of its tuning. Other formats do not have it.
func IsTuningFile(name string) bool { return name == TuningFile || name == MetricsFile }

// FittedText returns what the manifest says of the text that the artifact was fitted to, by
// calibration and by tuning: its files and passages. It is nil if there is none.
func (m *Manifest) FittedText() *FittedText {
	var t FittedText
	if c := m.Calibration; c != nil {
		t.Files, t.Passages = slices.Clone(c.Files), slices.Clone(c.Passages)
	}
	for _, r := range m.Tuning {
		t.Files, t.Passages = append(t.Files, r.Files...), append(t.Passages, r.Passages...)
	}
	if len(t.Files) == 0 {
		return nil
	}
	slices.Sort(t.Passages)
	t.Passages = slices.Compact(t.Passages)
	return &t
}

// FittedText is text that an artifact was fitted to.
type FittedText struct {
	Files    []string // hex SHA-256
	Passages []string // distinct, as in [CalibrationRecord]
}

// UsedFile reports whether the file with this hex SHA-256 is among them.
func (t *FittedText) UsedFile(sha256 string) bool { return slices.Contains(t.Files, sha256) }

// Overlap returns how many of the passages occur in a text, given its token ids of the same tokenizer.
func (t *FittedText) Overlap(ids []int32) int { return PassageCounter(t.Passages)(ids) }

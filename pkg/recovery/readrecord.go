package recovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// Bounds of what is read, far above what Run writes.
const (
	maxRecordBytes  = 1 << 20
	maxMetricsBytes = 256 << 20
)

// ReadRecord reads recovery.json of the directory that a run made. Errors are fault.Input.
func ReadRecord(dir string) (*Record, error) {
	path := filepath.Join(dir, RecordFile)
	data, err := infile.ReadBounded(path, maxRecordBytes)
	if err != nil {
		var missing *fault.Error
		parent := filepath.Dir(filepath.Clean(dir))
		if _, above := os.Stat(filepath.Join(parent, RecordFile)); above == nil && errors.As(err, &missing) {
			return nil, missing.WithHint("give the directory that recover wrote, %s, not one of its adapters", parent)
		}
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

func (r *Record) check() error {
	if len(r.Adapters) == 0 {
		return fmt.Errorf("has no adapters")
	}
	if r.Steps < 1 || r.StepTokens < 1 || r.TrainTokens < 0 || r.ValidationTokens < 1 || r.TestTokens < 0 || r.ExcludedTokens < 0 {
		return fmt.Errorf("has %d steps of %d tokens, %d tokens of training text, %d of validation text, %d of test text and %d excluded",
			r.Steps, r.StepTokens, r.TrainTokens, r.ValidationTokens, r.TestTokens, r.ExcludedTokens)
	}
	seen := map[int]bool{}
	for _, a := range r.Adapters {
		if a.Rank < 1 || seen[a.Rank] {
			return fmt.Errorf("has an adapter of rank %d, which is not positive or a duplicate", a.Rank)
		}
		seen[a.Rank] = true
		if err := a.check(r.Steps); err != nil {
			return fmt.Errorf("rank %d: %w", a.Rank, err)
		}
	}
	at := int64(0)
	for _, m := range r.Made {
		if m.From != at || m.To <= m.From || m.To > r.Steps || m.By == "" {
			return fmt.Errorf("steps %d to %d follow step %d of %d", m.From, m.To, at, r.Steps)
		}
		at = m.To
	}
	_, err := r.Artifact()
	return err
}

func (a *AdapterResult) check(steps int64) error {
	if a.Bytes < 0 || a.Params < 0 || a.Tokens < 0 || a.Step < 0 || a.Step > steps {
		return fmt.Errorf("has an impossible size or step")
	}
	if !(a.WithAdapter > 0 && a.WithAdapter <= 128) {
		return fmt.Errorf("%v bits per weight are impossible", a.WithAdapter)
	}
	if err := checkFigures([]*float64{a.KLBefore, a.KLInit, a.KLAfter}, a.Recovered,
		[]*float64{&a.PerplexityBefore, &a.PerplexityInit, &a.PerplexityAfter, a.PerplexityTeacher}); err != nil {
		return err
	}
	if x := a.Test; x != nil {
		if err := checkFigures([]*float64{x.KLBefore, x.KLAfter}, x.Recovered,
			[]*float64{&x.PerplexityBefore, &x.PerplexityAfter, x.PerplexityTeacher}); err != nil {
			return fmt.Errorf("test: %w", err)
		}
	}
	return nil
}

// checkFigures checks the figures of one text: all divergences are there or none, and each
// value is one that a model can have.
func checkFigures(kl []*float64, recovered *float64, perplexities []*float64) error {
	for _, k := range kl {
		if (k == nil) != (recovered == nil) {
			return fmt.Errorf("has only some of the divergences")
		}
		if k != nil && !(*k >= 0) {
			return fmt.Errorf("a divergence of %v is impossible", *k)
		}
	}
	for _, p := range perplexities {
		if p != nil && !(*p >= 1) {
			return fmt.Errorf("a perplexity of %v is impossible", *p)
		}
	}
	return nil
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

// parse decodes one JSON value and refuses unknown keys. The job of an older record
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
		return fmt.Errorf("has trailing data after its object")
	}
	return nil
}

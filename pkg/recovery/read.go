package recovery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
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

// ReadMetrics reads the lines of metrics.jsonl in the directory that a run made. Steps and
// tokens do not descend. Errors are fault.Input.
func ReadMetrics(dir string) ([]Metric, error) {
	path := filepath.Join(dir, MetricsFile)
	data, err := infile.ReadBounded(path, maxMetricsBytes)
	if err != nil {
		return nil, err
	}
	return ParseMetrics(path, data)
}

// ParseMetrics is ReadMetrics of bytes; file is what errors name.
func ParseMetrics(file string, data []byte) ([]Metric, error) {
	var out []Metric
	last := map[int]Metric{}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		var m Metric
		if err := parse(line, &m); err != nil {
			return nil, fault.Inputf(file, "line %d: %v", n, err)
		}
		if err := m.check(last[m.Rank]); err != nil {
			return nil, fault.Inputf(file, "line %d: %v", n, err)
		}
		last[m.Rank] = m
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, fault.Inputf(file, "has no lines")
	}
	return out, nil
}

func (m *Metric) check(last Metric) error {
	if m.Rank < 1 || m.Step < last.Step || m.Tokens < last.Tokens {
		return fmt.Errorf("rank %d, step %d after %d, token %d after %d", m.Rank, m.Step, last.Step, m.Tokens, last.Tokens)
	}
	for _, v := range []*float64{m.Loss, m.KL, m.Perplexity, &m.Rate, &m.GradientNorm} {
		if v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
			return fmt.Errorf("%v is no number", *v)
		}
	}
	if m.Loss == nil && m.KL == nil && m.Perplexity == nil {
		return fmt.Errorf("has neither a loss nor a look at held-out text")
	}
	if m.KL != nil && *m.KL < 0 || m.Perplexity != nil && *m.Perplexity < 1 {
		return fmt.Errorf("has an impossible divergence or perplexity")
	}
	return nil
}

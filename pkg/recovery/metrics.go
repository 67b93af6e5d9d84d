package recovery

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// Metric is one line of metrics.jsonl: a step of training, or an evaluation on the validation
// text after it. Equal jobs give equal metrics.
type Metric struct {
	Step         int64    `json:"step"`
	Tokens       int64    `json:"tokens"`                  // trained on so far
	Rank         int      `json:"rank,omitempty"`          // of the adapter; 0 for a tuned artifact
	Loss         *float64 `json:"loss,omitempty"`          // mean of the step's tokens
	Rate         float64  `json:"rate,omitempty"`          // learning rate
	GradientNorm float64  `json:"gradient_norm,omitempty"` // before clipping
	KL           *float64 `json:"validation_kl,omitempty"`
	Perplexity   *float64 `json:"validation_perplexity,omitempty"`
}

// ReadMetrics reads metrics.jsonl of the directory that a run made. The steps and tokens of
// each rank do not decrease. Errors are fault.Input.
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
	if m.Rank < 0 || m.Step < last.Step || m.Tokens < last.Tokens {
		return fmt.Errorf("rank %d, step %d after %d, token %d after %d", m.Rank, m.Step, last.Step, m.Tokens, last.Tokens)
	}
	for _, v := range []*float64{m.Loss, m.KL, m.Perplexity, &m.Rate, &m.GradientNorm} {
		if v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
			return fmt.Errorf("%v is not a finite number", *v)
		}
	}
	if m.Loss == nil && m.KL == nil && m.Perplexity == nil {
		return fmt.Errorf("has neither a loss nor figures of the validation text")
	}
	if m.KL != nil && *m.KL < 0 || m.Perplexity != nil && *m.Perplexity < 1 {
		return fmt.Errorf("has an impossible divergence or perplexity")
	}
	return nil
}

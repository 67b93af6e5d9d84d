package report

import (
	"fmt"
	"slices"
	"strings"

	"afmq/internal/units"
	"afmq/pkg/artifact"
)

// Provenance is the origin of the artifact according to its manifest.
type Provenance struct {
	Facts []Fact `json:"facts"`
}

// Fact is one entry of the provenance.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Note  string `json:"note,omitempty"`
	Hash  bool   `json:"-"`
}

func (s *sources) provenance() (any, error) {
	m := s.art.manifest
	p := m.Plan
	scales := "without row scales"
	if p.RowScale {
		scales = "with row scales"
	}
	form := fmt.Sprintf("groups of %d rows %s", p.GroupRows, scales)
	if p.Grid != "" {
		form = "grid " + p.Grid
		if c := p.Choice; c != nil && len(c.Forms) > 0 {
			form += fmt.Sprintf(", %s", c.Forms)
		}
	}
	d := &Provenance{Facts: []Fact{
		{"Content hash", m.ContentHash, "identifies the tensors; adapters refer to it", true},
		{"Source digest", m.Source.Digest, fmt.Sprintf("of the checkpoint: its config and %s tensors", units.Thousands(int64(len(m.Source.Tensors)))), true},
		{"Tokenizer", m.Tokenizer, "SHA-256 of tokenizer.json", true},
		{"Method", show(form + ", compensation " + p.Compensation), "", false},
		{"Made by", show("afmq " + m.ToolVersion), show("arithmetic " + m.Arithmetic), false},
		{"Seed", fmt.Sprint(m.Seed), "", false},
	}}
	if c := m.Calibration; c != nil {
		d.Facts = append(d.Facts,
			Fact{"Calibration", c.Digest, fmt.Sprintf("SHA-256 of %s tokens in sequences of %s, seed %d", units.Thousands(int64(c.Tokens)), units.Thousands(int64(c.SeqLen)), c.Seed), true},
			Fact{"Calibration files", strings.Join(calibrationFiles(c), "\n"), "SHA-256 of each", true})
	} else {
		d.Facts = append(d.Facts, Fact{"Calibration", "none", "no text was used", false})
	}
	for _, t := range m.Tuning {
		d.Facts = append(d.Facts,
			Fact{"Tuned", t.Parent, fmt.Sprintf("content hash of the artifact before; then %s were trained on %s tokens, up to step %s", show(strings.Join(t.Numbers, ", ")), units.Thousands(t.Tokens), units.Thousands(t.Step)), true},
			Fact{"Tuning files", strings.Join(t.Files, "\n"), "SHA-256 of each", true})
	}
	for _, f := range m.Files {
		d.Facts = append(d.Facts, Fact{show(f.Name), f.SHA256, fmt.Sprintf("SHA-256 of %s bytes", units.Thousands(f.Bytes)), true})
	}
	return d, nil
}

// calibrationFiles returns the digests of the files, with a word at that of the built-in text.
func calibrationFiles(c *artifact.CalibrationRecord) []string {
	files := slices.Clone(c.Files)
	if i := slices.Index(files, c.Builtin); i >= 0 {
		files[i] += " (the built-in text)"
	}
	return files
}

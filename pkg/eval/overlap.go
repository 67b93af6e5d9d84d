package eval

import (
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
)

// Overlap is what a text shares with the text that an artifact was calibrated or tuned on.
type Overlap struct {
	SameFile bool `json:"same_file"` // it is one of the files of that text
	Passages int  `json:"passages"`  // known passages of that text that occur in it
	Of       int  `json:"of"`        // passages that the manifest knows, of artifact.PassageTokens tokens each
}

// FindOverlap compares a corpus with the text of calibration and tuning that a manifest records. It
// returns nil if m is nil, as that of a checkpoint, or records none.
func FindOverlap(m *artifact.Manifest, corpus *Corpus) *Overlap {
	if m == nil {
		return nil
	}
	c := m.FittedText()
	if c == nil {
		return nil
	}
	return &Overlap{c.UsedFile(corpus.SHA256), c.Overlap(corpus.IDs), len(c.Passages)}
}

// checkOverlap refuses a file that the artifact was calibrated on or an adapter trained on,
// unless it is allowed, and warns of a text that shares passages with either: a model scores better on text that it was fitted to than on other text.
func (in *Inputs) checkOverlap(allow bool) error {
	in.Overlap = FindOverlap(in.Model.Manifest, in.Corpus)
	file, path := in.Corpus.File, in.Model.Dir
	const hint = "score another text, or give --allow-overlap"
	if o := in.Overlap; o != nil {
		fitted := "calibrated on"
		if len(in.Model.Manifest.Tuning) > 0 {
			fitted = "calibrated or tuned on"
		}
		if o.SameFile && !allow {
			return fault.Inputf(file, "is text that %s was %s; a score on it does not apply to other text", path, fitted).WithHint(hint)
		}
		if o.Passages > 0 {
			in.Warnings = append(in.Warnings, fmt.Sprintf("%s shares %d of %d passages with the text that %s was %s", file, o.Passages, o.Of, path, fitted))
		}
	}
	for _, v := range in.Variants {
		trained := v.Weights.Overlap(in.Corpus.SHA256, in.Corpus.IDs)
		if trained.SameFile && !allow {
			return fault.Inputf(file, "is text that adapter %s was trained on; a score on it does not apply to other text", v.Name).WithHint(hint)
		}
		if trained.Passages > 0 {
			in.Warnings = append(in.Warnings, fmt.Sprintf("%s shares %d of %d passages with the text that adapter %s was trained on", file, trained.Passages, trained.Of, v.Name))
		}
	}
	return nil
}

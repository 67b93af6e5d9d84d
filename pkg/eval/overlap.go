package eval

import "afmq/pkg/artifact"

// Overlap is what a text has in common with the text that an artifact was calibrated on.
type Overlap struct {
	SameFile bool `json:"same_file"` // it is one of the files
	Passages int  `json:"passages"`  // runs of PassageTokens tokens that occur in both
	Of       int  `json:"of"`        // runs that are known of the calibration text
}

// FindOverlap holds the corpus of a data file against the calibration text of the artifact
// in dir. It returns nil where dir is no artifact, or one without calibration.
func FindOverlap(dir string, corpus *Corpus) (*Overlap, error) {
	if !artifact.IsArtifact(dir) {
		return nil, nil
	}
	m, err := artifact.ReadManifest(dir)
	if err != nil || m.Calibration == nil {
		return nil, err
	}
	c := m.Calibration
	return &Overlap{c.UsedFile(corpus.SHA256), c.Overlap(corpus.IDs), len(c.Passages)}, nil
}

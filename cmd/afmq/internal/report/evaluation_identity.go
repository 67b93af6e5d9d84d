package report

import (
	"errors"
	"fmt"

	"afmq/internal/infile"
	"afmq/pkg/eval"
)

// checkIdentity refuses an identity that is impossible or contradicts the rest of the evaluation.
func (e *evalFile) checkIdentity() error {
	id, m := e.Identity, &e.Identity.Model
	digests := []string{id.Data, id.Tokenizer, m.Digest, m.Source}
	if id.Reference != nil {
		digests = append(digests, *id.Reference)
	}
	for _, d := range digests {
		if !infile.IsSHA256(d) {
			return fmt.Errorf("identity: %.80q is not a SHA-256 in lower-case hex", d)
		}
	}
	compared := e.Result != nil && e.Comparison != nil
	switch {
	case m.Kind == "gguf":
		return errors.New("it evaluates a GGUF file, which a report does not have")
	case m.Kind != "artifact" && m.Kind != "checkpoint":
		return fmt.Errorf("identity: kind %.80q is neither artifact nor checkpoint", m.Kind)
	case (m.Kind == "artifact") != (m.Recipe != nil):
		return fmt.Errorf("identity: the recipe of the %s is missing or too much", m.Kind)
	case m.Kind == "checkpoint" && m.Digest != m.Source:
		return errors.New("identity: a checkpoint is its own source")
	case m.Bytes < 0:
		return fmt.Errorf("identity: a size of %d bytes is impossible", m.Bytes)
	case compared != (id.Reference != nil):
		return errors.New("it has figures of a comparison without a reference, or the reverse")
	case m.Recipe != nil && m.Recipe.Calibration != nil && e.Overlap == nil:
		return errors.New("it does not say how the text overlaps with the calibration text of the artifact")
	case m.Recipe != nil:
		return checkRecipe(m.Recipe)
	}
	return nil
}

func checkRecipe(r *eval.Recipe) error {
	for _, bits := range []float64{r.BPW.Projections, r.BPW.Model} {
		if !(bits > 0 && bits <= 64) {
			return fmt.Errorf("identity: %v bits per weight are impossible", bits)
		}
	}
	for _, w := range r.Widths {
		if w < 1 || w > 16 {
			return fmt.Errorf("identity: a width of %d bits is impossible", w)
		}
	}
	return nil
}

func checkAdapter(a *eval.AdapterIdentity) error {
	if !infile.IsSHA256(a.SHA256) {
		return fmt.Errorf("identity: %.80q is not a SHA-256 in lower-case hex", a.SHA256)
	}
	if a.Rank < 1 || a.TensorBytes < 0 || a.Bytes < a.TensorBytes {
		return fmt.Errorf("identity: rank %d with %d bytes, %d of them in tensors, is impossible", a.Rank, a.Bytes, a.TensorBytes)
	}
	return nil
}

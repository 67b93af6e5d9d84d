package compare

import (
	"fmt"
	"os"
	"path/filepath"

	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// bind gives each adapter to the candidates that it was trained on, by the content hash that its file
// names. The reference gets none.
func (r *runner) bind() error {
	models := r.candidates
	if r.opts.Reference != nil {
		models = models[1:]
	}
	hashes := make([]string, len(models)) // "" unless it is an artifact
	for i, c := range models {
		if !artifact.IsArtifact(c.Path) {
			continue
		}
		m, err := artifact.ReadManifest(c.Path)
		if err != nil {
			return err
		}
		hashes[i] = m.ContentHash
	}
	for _, a := range r.opts.Adapters {
		base := adapter.ReadBase(a.Dir)
		// A single model is checked as it is opened, where errors say most.
		if len(models) == 1 || base == "" && !isAdapter(a) {
			models[0].adapters = append(models[0].adapters, a)
			continue
		}
		if base == "" {
			return fault.Inputf(a.Dir, "does not name the artifact that it was trained on, and there are %d models", len(models)).
				WithHint("compare it on its artifact alone, with --allow-unbound")
		}
		found := false
		for i, c := range models {
			if hashes[i] == base {
				c.adapters = append(c.adapters, a)
				found = true
			}
		}
		if !found {
			return fault.Inputf(a.Dir, "was trained on the artifact with content hash %.16s…, which is none of the models", base).
				WithHint("add that artifact to the models to compare; `afmq inspect` prints content hashes")
		}
	}
	return nil
}

// isAdapter reports whether a directory has the weights of an adapter.
func isAdapter(a eval.Adapter) bool {
	_, err := os.Stat(filepath.Join(a.Dir, adapter.WeightsFile))
	return err == nil
}

func tooShort(data string, windows int) string {
	return fmt.Sprintf("no two models are told apart: %s gives %d of the %d windows that this needs; score a longer text, or take a smaller --ctx", data, windows, MinWindows)
}

package adapter

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"afmq/pkg/artifact"
)

// PassagesKey is the key in the metadata of adapter_model.safetensors of the passages of the
// training text: hashes as [artifact.CalibrationRecord] defines them, in hex, joined by commas.
const PassagesKey = "afmq_training_passages"

// maxPassages bounds the passages in a file, which then take 17 KB.
const maxPassages = 1024

// Overlap is what a text has in common with the training text of an adapter.
type Overlap struct {
	SameFile bool // it is one of the training files
	Passages int  // known passages of the training text, runs of artifact.PassageTokens tokens, that occur in it
	Of       int  // known passages
}

// Overlap compares a text with the training text of the adapter, and of the adapters that it
// was trained from. sha256 is the hex SHA-256 of the text's file; ids are its tokens, of the
// tokenizer of the adapter's base.
func (a *Adapter) Overlap(sha256 string, ids []int32) Overlap {
	c := artifact.CalibrationRecord{Passages: a.Passages}
	return Overlap{SameFile: slices.Contains(a.Data, sha256), Passages: c.Overlap(ids), Of: len(a.Passages)}
}

// MergePassages returns the distinct passages of the lists, evenly thinned to the number that
// a file may hold.
func MergePassages(lists ...[]string) []string {
	var all []string
	seen := map[string]bool{}
	for _, p := range slices.Concat(lists...) {
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	n := min(len(all), maxPassages)
	out := make([]string, n)
	for i := range out {
		out[i] = all[i*len(all)/n]
	}
	return out
}

// MergeFiles returns the distinct entries of the lists of training files, in order.
func MergeFiles(lists ...[]string) (out []string) {
	for _, f := range slices.Concat(lists...) {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// parsePassages reads the value of [PassagesKey]; it is empty in adapters of other programs.
func parsePassages(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	passages := strings.Split(text, ",")
	for _, p := range passages {
		if b, err := hex.DecodeString(p); err != nil || len(b) != 8 {
			return nil, fmt.Errorf("%s: %.80q is not a hash of 16 hexadecimal digits", PassagesKey, p)
		}
	}
	return passages, nil
}

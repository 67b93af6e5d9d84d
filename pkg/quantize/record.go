package quantize

import (
	"encoding/json"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// record is the journal's entry for one finished item.
type record struct {
	Item         int                     `json:"item"`
	Tensors      []artifact.TensorDigest `json:"tensors"` // written
	Source       []artifact.TensorDigest `json:"source"`  // read, twins included
	SquaredError float64                 `json:"squared_error"`
	SquaredNorm  float64                 `json:"squared_norm"`
	OutputError  float64                 `json:"output_error,omitempty"`
	Warning      string                  `json:"warning,omitempty"`
}

// readRecords returns the records of the items that an earlier run finished,
// from the first on. A record for an item replaces it and all later ones: a run
// that did not trust what it found went on from there.
func (j *job) readRecords(lines []json.RawMessage) []record {
	var out []record
	for _, line := range lines {
		var other sensitivity.Record
		if json.Unmarshal(line, &other) == nil && other.Score != nil {
			continue // a score, from before the plan was made
		}
		var r record
		if json.Unmarshal(line, &r) != nil || r.Item < 0 || r.Item > len(out) || r.Item >= len(j.items) {
			break
		}
		it := &j.items[r.Item]
		if !matches(r.Tensors, it.outs) || len(r.Source) != 1+len(it.Twins) {
			break
		}
		out = append(out[:r.Item], r)
	}
	return out
}

func matches(digests []artifact.TensorDigest, infos []safetensors.Info) bool {
	return slices.EqualFunc(digests, infos, func(d artifact.TensorDigest, i safetensors.Info) bool {
		return d.Name == i.Name && d.DType == i.DType.String() && slices.Equal(d.Shape, i.Shape)
	})
}

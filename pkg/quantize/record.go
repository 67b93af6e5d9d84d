package quantize

import (
	"encoding/json"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// record is the journal's entry for one finished item. Everything in it reaches the
// manifest, so Digest binds all of it to the job.
type record struct {
	Item         int                     `json:"item"`    // index among the tensors of the model
	Tensors      []artifact.TensorDigest `json:"tensors"` // written
	Source       []artifact.TensorDigest `json:"source"`  // read, twins included
	SquaredError float64                 `json:"squared_error"`
	SquaredNorm  float64                 `json:"squared_norm"`
	OutputError  float64                 `json:"output_error,omitempty"`
	Warning      string                  `json:"warning,omitempty"`
	Digest       string                  `json:"digest"` // see recordKey.digest
}

// recordKey identifies the job that records belong to: the digest of the job's identity
// and of the widths of its modules.
type recordKey string

// newRecordKey returns the key of a job with this identity and these widths.
func newRecordKey(identity []byte, widths map[string]sensitivity.Width) (recordKey, error) {
	modules := make(map[string]string, len(widths))
	for name, w := range widths {
		modules[name] = w.String()
	}
	data, err := json.Marshal(modules) // in the order of the names
	if err != nil {
		return "", err
	}
	return recordKey(infile.SHA256(identity) + infile.SHA256(data)), nil
}

// digest returns the hex SHA-256 of the key and the record's JSON without its digest. It
// detects a record that was edited, damaged or copied from another job. It is no
// signature: whoever computes it anew can forge a record.
func (k recordKey) digest(r record) (string, error) {
	r.Digest = ""
	data, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	return infile.SHA256(append([]byte(k), data...)), nil
}

// readRecords returns the intact records of the items that earlier runs finished, from the
// first item to the last one before a gap. Lines that are not intact records of this job
// are skipped: scores, which share the journal, and damaged records. A record of an item
// replaces earlier ones of that item and of all later items, because a run that rejects an
// item continues from there.
func (j *job) readRecords(lines []json.RawMessage) []record {
	var out []record
	for _, line := range lines {
		var r record
		if json.Unmarshal(line, &r) != nil {
			continue
		}
		i := r.Item - j.first
		if i < 0 || i > len(out) || i >= len(j.items) {
			continue
		}
		if want, err := j.key.digest(r); err != nil || r.Digest != want {
			continue
		}
		it := &j.items[i]
		if !matches(r.Tensors, it.outs) || len(r.Source) != 1+len(it.Twins) {
			continue
		}
		out = append(out[:i], r)
	}
	return out
}

// matches reports whether the digests are of tensors with these names, types and shapes.
func matches(digests []artifact.TensorDigest, infos []safetensors.Info) bool {
	return slices.EqualFunc(digests, infos, func(d artifact.TensorDigest, i safetensors.Info) bool {
		return d.Name == i.Name && d.DType == i.DType.String() && slices.Equal(d.Shape, i.Shape)
	})
}

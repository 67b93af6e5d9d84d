package quantize

import (
	"encoding/json"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/safetensors"
)

// Whatever a journal holds, the accepted records fit the job.
func FuzzReadRecords(f *testing.F) {
	j := &job{items: []item{
		{outs: []safetensors.Info{{Name: "a", DType: safetensors.F16, Shape: []int{2}}}},
		{outs: []safetensors.Info{{Name: "b.indices", DType: safetensors.U8, Shape: []int{2, 1}}, {Name: "b.lut", DType: safetensors.F16, Shape: []int{1, 4}}}},
	}}
	line := func(item int) []byte {
		r := record{Item: item, Source: []artifact.TensorDigest{{Name: "x"}}}
		for _, o := range j.items[item].outs {
			r.Tensors = append(r.Tensors, artifact.NewTensorDigest(o, nil))
		}
		var err error
		if r.Digest, err = j.key.digest(r); err != nil {
			f.Fatal(err)
		}
		data, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	if n := len(j.readRecords([]json.RawMessage{line(0), line(1), line(0)})); n != 1 {
		f.Fatalf("%d records after the first was written again", n)
	}
	if n := len(j.readRecords([]json.RawMessage{line(1)})); n != 0 {
		f.Fatalf("%d records without the first", n)
	}
	f.Add(line(0), line(1))
	f.Add(line(0), []byte(`{"item":-1}`))
	f.Add([]byte(`{"item":1}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for i, r := range j.readRecords([]json.RawMessage{a, b}) {
			if r.Item != i || !matches(r.Tensors, j.items[i].outs) || len(r.Source) != 1 {
				t.Fatalf("record %d: %+v", i, r)
			}
		}
	})
}

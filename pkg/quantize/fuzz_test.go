package quantize

import (
	"bytes"
	"encoding/json"
	"testing"

	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

// Whatever a config holds, an artifact's is valid JSON, and taking
// quantization_config out again gives the same keys with the same text.
func FuzzArtifactConfig(f *testing.F) {
	f.Add([]byte(sourceConfig))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"a":1,"a":2,"":[{}],"torch_dtype":null}`))
	f.Add([]byte(`{"\ud800":1e999999}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := splitObject(data)
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.name == quantizationKey {
				return
			}
		}
		art, err := artifactConfig(data, 4, 16, []moduleBits{{"m", 2}})
		if err != nil || !json.Valid(art) {
			t.Fatalf("%q: %v", art, err)
		}
		dense, err := denseConfig(art)
		if err != nil || !json.Valid(dense) {
			t.Fatalf("%q: %v", dense, err)
		}
		back, err := splitObject(dense)
		if err != nil || len(back) < len(keys) {
			t.Fatalf("%d keys of %d, %v", len(back), len(keys), err)
		}
		for i, k := range keys {
			if k.name == "torch_dtype" || k.name == "dtype" {
				continue
			}
			if back[i].name != k.name || compact(t, back[i].value) != compact(t, k.value) {
				t.Fatalf("key %q: %s became %q: %s", k.name, k.value, back[i].name, back[i].value)
			}
		}
	})
}

func compact(t *testing.T, v json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A journal can hold anything; what is taken from it fits the job.
func FuzzReadRecords(f *testing.F) {
	j := &job{items: []item{
		{outs: []safetensors.Info{{Name: "a", DType: safetensors.F16, Shape: []int{2}}}},
		{outs: []safetensors.Info{{Name: "b.indices", DType: safetensors.U8, Shape: []int{2, 1}}, {Name: "b.lut", DType: safetensors.F16, Shape: []int{1, 4}}}},
	}}
	line := func(item int) []byte {
		r := record{Item: item, Source: []infer.TensorDigest{{Name: "x"}}}
		for _, o := range j.items[item].outs {
			r.Tensors = append(r.Tensors, digestOf(o, nil))
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

package artifact

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// sourceConfig has what is easily lost: order, big and long numbers, escapes,
// characters that encoding/json escapes for HTML, a nested object.
const sourceConfig = `{"z":1,"a": 1e-06,
 "big":12345678901234567890123, "pi": 3.14159265358979323846264338327950288,"theta":500000.0,
 "s":"a<b>&\u00e9\u2028é", "nested": {"y":[1, 2,
 {}],"x":null}, "dtype":"bfloat16"}`

func TestArtifactConfig(t *testing.T) {
	got, err := EncodeConfig([]byte(sourceConfig), 4, 16, []ModuleBits{{"model.b", 2}, {"model.a", 16}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "z": 1,
  "a": 1e-06,
  "big": 12345678901234567890123,
  "pi": 3.14159265358979323846264338327950288,
  "theta": 500000.0,
  "s": "a<b>&\u00e9\u2028é",
  "nested": {
    "y": [
      1,
      2,
      {}
    ],
    "x": null
  },
  "dtype": "bfloat16",
  "quantization_config": {
    "quant_method": "afmq",
    "version": 1,
    "bits": 4,
    "group_rows": 16,
    "modules": {
      "model.b": {
        "bits": 2
      },
      "model.a": {
        "bits": 16
      }
    }
  }
}
`
	if string(got) != want {
		t.Errorf("artifact's config:\n%s\nwant\n%s", got, want)
	}
	dense, err := DenseConfig(got, safetensors.F16)
	if err != nil {
		t.Fatal(err)
	}
	back := strings.Replace(want[:strings.Index(want, `,`+"\n"+`  "quantization_config"`)]+"\n}\n", "bfloat16", "float16", 1)
	if string(dense) != back {
		t.Errorf("dense config:\n%s\nwant\n%s", dense, back)
	}
}

func TestDenseConfigAddsType(t *testing.T) {
	for dtype, name := range map[safetensors.DType]string{safetensors.F16: "float16", safetensors.F32: "float32"} {
		got, err := DenseConfig([]byte(`{"a":1,"quantization_config":{"bits":4}}`), dtype)
		if want := "{\n  \"a\": 1,\n  \"torch_dtype\": \"" + name + "\"\n}\n"; err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}

func TestRefuseQuantized(t *testing.T) {
	for _, s := range []string{
		`{"quantization_config":{"quant_method":"gptq"}}`, `{"a":1,"quantization_config":{}}`, `{"compression_config":{"a":1}}`,
	} {
		wantFault(t, refuseQuantized("c.json", []byte(s)), fault.Input, "c.json", "quantized already")
	}
	for _, s := range []string{`[]`, `1`, `{`, ``, `{"a":1`} {
		wantFault(t, refuseQuantized("c.json", []byte(s)), fault.Input, "c.json", "JSON")
	}
	if err := refuseQuantized("c.json", []byte(`{"quantization_config":null}`)); err != nil {
		t.Error(err)
	}
}

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
			if k.Name == quantizationKey {
				return
			}
		}
		art, err := EncodeConfig(data, 4, 16, []ModuleBits{{"m", 2}})
		if err != nil || !json.Valid(art) {
			t.Fatalf("%q: %v", art, err)
		}
		dense, err := DenseConfig(art, safetensors.F16)
		if err != nil || !json.Valid(dense) {
			t.Fatalf("%q: %v", dense, err)
		}
		back, err := splitObject(dense)
		if err != nil || len(back) < len(keys) {
			t.Fatalf("%d keys of %d, %v", len(back), len(keys), err)
		}
		for i, k := range keys {
			if k.Name == "torch_dtype" || k.Name == "dtype" {
				continue
			}
			if back[i].Name != k.Name || compact(t, back[i].value) != compact(t, k.value) {
				t.Fatalf("key %q: %s became %q: %s", k.Name, k.value, back[i].Name, back[i].value)
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

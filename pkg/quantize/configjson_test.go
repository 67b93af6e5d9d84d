package quantize

import (
	"strings"
	"testing"

	"afmq/internal/fault"
)

// sourceConfig has what is easily lost: order, big and long numbers, escapes,
// characters that encoding/json escapes for HTML, a nested object.
const sourceConfig = `{"z":1,"a": 1e-06,
 "big":12345678901234567890123, "pi": 3.14159265358979323846264338327950288,"theta":500000.0,
 "s":"a<b>&\u00e9\u2028é", "nested": {"y":[1, 2,
 {}],"x":null}, "dtype":"bfloat16"}`

func TestArtifactConfig(t *testing.T) {
	got, err := artifactConfig([]byte(sourceConfig), 4, 16, []moduleBits{{"model.b", 2}, {"model.a", 16}})
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
	dense, err := denseConfig(got)
	if err != nil {
		t.Fatal(err)
	}
	back := strings.Replace(want[:strings.Index(want, `,`+"\n"+`  "quantization_config"`)]+"\n}\n", "bfloat16", "float16", 1)
	if string(dense) != back {
		t.Errorf("dense config:\n%s\nwant\n%s", dense, back)
	}
}

func TestDenseConfigAddsType(t *testing.T) {
	got, err := denseConfig([]byte(`{"a":1,"quantization_config":{"bits":4}}`))
	if want := "{\n  \"a\": 1,\n  \"torch_dtype\": \"float16\"\n}\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
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

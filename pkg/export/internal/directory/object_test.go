package directory

import "testing"

// An object keeps the order of its keys and the bytes of values that do not change.
func TestObject(t *testing.T) {
	o, err := ParseObject([]byte(`{"b": 1e-06, "quantization_config": {"x": [1]}, "a": "<&>", "n": 500000.0, "torch_dtype": "float32"}`))
	if err != nil {
		t.Fatal(err)
	}
	o.Delete("quantization_config")
	o.Delete("absent")
	o.Set("b", 0.000001)
	o.Set("n", Float(500000))
	o.Set("a", "x<y")
	o.Set("new", Float(3))
	o.SetAny("float16", "dtype", "torch_dtype")
	const want = `{
  "b": 1e-06,
  "a": "x<y",
  "n": 500000.0,
  "torch_dtype": "float16",
  "new": 3.0
}
`
	if got := string(o.Encode()); got != want {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{``, `[]`, `{`, `{"a"}`, `1`} {
		if _, err := ParseObject([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

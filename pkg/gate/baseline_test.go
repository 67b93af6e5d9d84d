package gate

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// A baseline is read as it was written, to the last bit, and its bytes do not vary.
func TestBaselineRoundTrip(t *testing.T) {
	odd := []float64{math.Nextafter(3, 4), 1.0 / 3, 2.2250738585072014e-308, 12, 1, 2, 3, 4, 5}
	for _, kl := range [][]float64{nil, {0, 1e-17, math.Nextafter(0.1, 1), 0.5, 0, 1, 2, 3, 4}} {
		b := baseline(t, evaluation(tokens, odd, kl))
		path := filepath.Join(t.TempDir(), "baseline.json")
		for range 2 { // the second time it is replaced
			if err := b.Write(path); err != nil {
				t.Fatal(err)
			}
		}
		got, err := ReadBaseline(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(b, got); d != "" {
			t.Error(d)
		}
		x, _ := b.Encode()
		y, err := got.Encode()
		if err != nil || !bytes.Equal(x, y) {
			t.Errorf("encoded again it differs: %v", err)
		}
		if n := bytes.Count(x, []byte("\n  {\"tokens\":")); n != len(tokens) {
			t.Errorf("%d lines of windows:\n%s", n, x)
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(entries) != 1 {
			t.Errorf("%v lie beside it: %v", entries, err)
		}
	}
}

// Anything that figures depend on is named where it differs.
func TestSettingDiffers(t *testing.T) {
	other := strings.Repeat("f", 64)
	for name, c := range map[string]struct {
		change func(s *Setting)
		want   string
	}{
		"nothing":      {func(*Setting) {}, ""},
		"data":         {func(s *Setting) { s.Data = other }, "data of SHA-256 " + hex64 + "; now it is " + other},
		"tokenizer":    {func(s *Setting) { s.Tokenizer = other }, "tokenizer.json"},
		"protocol":     {func(s *Setting) { s.Protocol = eval.Stride }, "protocol chunk; now it is stride"},
		"ctx":          {func(s *Setting) { s.Ctx = 32 }, "context of 64; now it is 32"},
		"stride":       {func(s *Setting) { s.Stride = 8 }, "stride of 0; now it is 8"},
		"compute":      {func(s *Setting) { s.Compute = "bf16" }, "compute f32; now it is bf16"},
		"reference":    {func(s *Setting) { s.Reference = &other }, "reference of digest"},
		"no reference": {func(s *Setting) { s.Reference = nil }, ""},
	} {
		b, now := setting(true), setting(true)
		c.change(&now)
		if got := b.Differs(&now); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestParseBaselineRefuses(t *testing.T) {
	good, err := baseline(t, evaluation(tokens, before, beforeK)).Encode()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("%q is not in\n%s", old, good)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	if _, err := ParseBaseline("b", []byte(edit(`"tokens": 524`, `"later": [1], "tokens": 524`))); err != nil {
		t.Errorf("a key of a later program: %v", err)
	}
	for want, text := range map[string]string{
		"not valid JSON":           "{",
		"trailing data":            string(good) + "{}",
		"not valid UTF-8":          "\xff",
		"its schema is":            edit("afmq.baseline/v1", "afmq.baseline/v2"),
		"duplicate key":            edit(`"ctx": 64`, `"ctx": 64, "ctx": 65`),
		"data \"0123":              edit(hex64, hex64[:62]),
		"unknown":                  edit(`"chunk"`, `"every"`),
		"a context of 1":           edit(`"ctx": 64`, `"ctx": 1`),
		"compute \"\"":             edit(`"f32"`, `""`),
		"window 1 has impossible":  edit(`{"tokens":63,`, `{"tokens":0,`),
		"model.kind \"banana\"":    edit(`"artifact"`, `"banana"`),
		"model.bytes is -1":        edit(`"bytes": 1001`, `"bytes": -1`),
		"model.bpw is -3":          edit(`"bpw": 3.75`, `"bpw": -3`),
		"model.adapter \"xyz\" is": edit(`"adapter": null`, `"adapter": "xyz"`),
		"a stride of 32, which":    edit(`"ctx": 64`, `"ctx": 64, "stride": 32`),
		"stride of 64 is not":      strings.Replace(edit(`"ctx": 64`, `"ctx": 64, "stride": 64`), `"chunk"`, `"stride"`, 1),
		"window 7 has impossible":  edit(`"nats":2.8,`, `"nats":-2.8,`),
		"window 5 has impossible":  edit(`"nats":3.2,`, `"nats":100.1,`),
		"window 2 has impossible":  edit(`"nats":2.9,`, `"nats":1e9,`),
		"window 3 has impossible":  edit(`,"kl":0.01`, ``),
		"its totals are":           edit(`"nats":2.9,`, `"nats":2.90001,`),
		"not those of its":         edit(`"tokens": 524`, `"tokens": 523`),
		"totals are not":           edit(`"kl":0.01`, `"kl":0.010001`),
		"without a mean":           edit(`"reference": "`+hex64+`"`, `"reference": null`),
		"its ctx is a string":      edit(`"ctx": 64`, `"ctx": "64"`),
		`its schema is "x/v1"`:     `{"model": "my-4bit", "schema": "x/v1"}`, // an evaluation
		"has 0 windows":            edit(`"windows": [`, `"windows": [], "other": [`),
		"unknown key \"Data\"":     edit(`"data"`, `"Data"`),
	} {
		_, err := ParseBaseline("b.json", []byte(text))
		if fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), "b.json: is not a baseline: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := ReadBaseline(filepath.Join(t.TempDir(), "none")); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
}

// Whatever is read is consistent, and written again it is read the same.
func FuzzParseBaseline(f *testing.F) {
	kl := 0.5
	b := &Baseline{Schema: BaselineSchema, ToolVersion: "x", Setting: setting(true), Model: Subject{Kind: "artifact", Digest: hex64},
		Tokens: 3, NatsPerToken: 2, KLMean: &kl, Windows: []eval.WindowScore{{Tokens: 1, Nats: 2, KL: &kl}, {Tokens: 2, Nats: 2, KL: &kl}}}
	seed, err := b.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(bytes.Replace(seed, []byte(`"tokens":2`), []byte(`"tokens":9223372036854775807`), 1))
	f.Add([]byte(`{"schema":"afmq.baseline/v1","windows":[null,null]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBaseline("b", data)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatal(err)
			}
			return
		}
		again, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseBaseline("b", again)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(b, c); d != "" {
			t.Fatal(d)
		}
		v, err := Judge("b", b, b, Limits{})
		if len(b.Windows) < MinWindows {
			if fault.KindOf(err) != fault.Input {
				t.Fatalf("%d windows against themselves: %+v, %v", len(b.Windows), v, err)
			}
		} else if err != nil || !v.Passed {
			t.Fatalf("against itself: %+v, %v", v, err)
		}
	})
}

package coreml

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/x448/float16"

	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/infer"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// fixtureIDs are the tokens that a fixture's expected logits belong to.
func fixtureIDs(t *testing.T, name string) []int32 {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(exporttest.Models, name, "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, _ := f.Tensor("ids")
	view, err := safetensors.View[int32](x)
	if err != nil {
		t.Fatal(err)
	}
	return append([]int32(nil), view...)
}

// engineLogits are the logits of the engine, in float32.
func engineLogits(t *testing.T, dir string, ids []int32) []float32 {
	t.Helper()
	m, err := infer.Open(bg, dir, infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return logitsOf(m, ids)
}

func logitsOf(m *infer.Model, ids []int32) []float32 {
	r := m.NewRunner(nil)
	out := make([]float32, len(ids)*m.Config.VocabSize)
	r.Logits(out, r.Forward([]infer.Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}}), len(ids))
	return out
}

// packageLogits runs the package: prefill for whole chunks, decode for the rest.
func packageLogits(t *testing.T, dir, suffix string, chunk int, ids []int32, exact bool) []float32 {
	t.Helper()
	model, weights := readFile(t, filepath.Join(dir, modelFile)), readFile(t, filepath.Join(dir, weightsFile))
	prefill, decode := newMachine(model, weights, "prefill"+suffix), newMachine(model, weights, "decode"+suffix)
	decode.states = prefill.states
	prefill.exact, decode.exact = exact, exact
	var out []float32
	at := 0
	for ; at+chunk <= len(ids); at += chunk {
		out = append(out, prefill.run(ids[at:at+chunk], at).data...)
	}
	for ; at < len(ids); at++ {
		out = append(out, decode.run(ids[at:at+1], at).data...)
	}
	return out
}

// worst returns the largest difference relative to the root mean square of want.
func worst(t *testing.T, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d logits, expected %d", len(got), len(want))
	}
	sum, most := 0.0, 0.0
	for i, x := range want {
		sum += float64(x) * float64(x)
		most = max(most, math.Abs(float64(got[i])-float64(x)))
	}
	return most / math.Sqrt(sum/float64(len(want)))
}

// Every family's program computes the logits of the engine, for every width that Core ML has.
// The differences are those of fp16: of the stored values alone, and then of every result.
// A wrong operation changes the logits by their whole size.
func TestLogitsAgreeWithEngine(t *testing.T) {
	widths := []int{4, 3, 2, 6, 8, 1}
	for i, name := range exporttest.Names(t) {
		t.Run(name, func(t *testing.T) {
			q, out := filepath.Join(t.TempDir(), "q"), filepath.Join(t.TempDir(), "m.mlpackage")
			group := 4
			if name == "qwen3-shards-bf16" { // it has matrices of 37 rows
				group = 1
			}
			_, err := quantize.Run(bg, quantize.Options{
				Model: exporttest.Copy(t, name), Out: q, Bits: widths[i%len(widths)], GroupRows: group, NoRowScale: i%3 == 2,
			})
			if err != nil {
				t.Fatal(err)
			}
			// The frequencies of longrope are constant up to its original positions.
			opts := Options{Artifact: q, Out: out, Chunk: 5}
			if strings.Contains(name, "longrope") {
				opts.Context = 16
			}
			r, err := Export(bg, opts)
			if err != nil {
				t.Fatal(err)
			}
			ids := fixtureIDs(t, name)
			ids = ids[:min(len(ids), r.Context, 23)]
			want := engineLogits(t, q, ids)
			exact := worst(t, packageLogits(t, out, "", 5, ids, true), want)
			half := worst(t, packageLogits(t, out, "", 5, ids, false), want)
			if !(exact <= 0.03 && half <= 0.06) {
				t.Errorf("largest difference relative to the logits: %.3g, with every result in fp16 %.3g", exact, half)
			}
		})
	}
}

// An embedding whose int8 scales are too small for fp16 keeps its precision, in the embedding and
// in the head that is tied to it.
func TestSmallEmbedding(t *testing.T) {
	const name = "qwen3-tied-f16"
	source, dir := exporttest.Copy(t, name), t.TempDir()
	path := filepath.Join(source, "model.safetensors")
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	x, ok := f.Tensor("model.embed_tokens.weight")
	if !ok {
		t.Fatal("no embedding")
	}
	data := readFile(t, path)
	at := bytes.Index(data, x.Bytes())
	for i := at; i < at+len(x.Bytes()); i += 2 {
		v := float16.Frombits(binary.LittleEndian.Uint16(data[i:])).Float32()
		binary.LittleEndian.PutUint16(data[i:], float16.Fromfloat32(v/256).Bits())
	}
	f.Close()
	exporttest.Write(t, path, data)
	q, out := filepath.Join(dir, "q"), filepath.Join(dir, "m.mlpackage")
	if _, err := quantize.Run(bg, quantize.Options{Model: source, Out: q, GroupRows: 4}); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(bg, Options{Artifact: q, Out: out, Chunk: 5}); err != nil {
		t.Fatal(err)
	}
	program := newMachine(readFile(t, filepath.Join(out, modelFile)), readFile(t, filepath.Join(out, weightsFile)), "decode")
	if last := program.ops[len(program.ops)-1]; last.kind != "mul" || last.names[0] != logits {
		t.Fatalf("the program ends with %s: the scales were not multiplied", last.kind)
	}
	ids := fixtureIDs(t, name)[:12]
	want := engineLogits(t, q, ids)
	if d := worst(t, packageLogits(t, out, "", 5, ids, false), want); !(d <= 0.06) {
		t.Errorf("largest difference relative to the logits: %.3g", d)
	}
}

// An embedding may be a palette, tied to the head or not: the program looks rows up in it, and
// multiplies with it.
func TestPalettizedEmbedding(t *testing.T) {
	for _, c := range []struct {
		model      string
		bits       int
		noRowScale bool
	}{{"qwen3-tied-f16", 4, false}, {"llama2-f32", 3, true}} {
		dir := t.TempDir()
		q, out := filepath.Join(dir, "q"), filepath.Join(dir, "m.mlpackage")
		if _, err := quantize.Run(bg, quantize.Options{
			Model: exporttest.Copy(t, c.model), Out: q, GroupRows: 4, NoRowScale: c.noRowScale,
			Overrides: []sensitivity.Override{{Pattern: "embed_tokens", Bits: c.bits}},
		}); err != nil {
			t.Fatal(err)
		}
		r, err := Export(bg, Options{Artifact: q, Out: out, Chunk: 5})
		if err != nil {
			t.Fatal(err)
		}
		if r.Palettes%7 != 1 {
			t.Errorf("%s: %d palettes", c.model, r.Palettes)
		}
		ids := fixtureIDs(t, c.model)[:12]
		want := engineLogits(t, q, ids)
		if d := worst(t, packageLogits(t, out, "", 5, ids, false), want); !(d <= 0.06) {
			t.Errorf("%s: largest difference relative to the logits: %.3g", c.model, d)
		}
	}
}

// An adapter's functions compute the engine's logits with the adapter; those of the base stay
// what they were.
func TestAdapterFunctions(t *testing.T) {
	q, out := filepath.Join(t.TempDir(), "q"), filepath.Join(t.TempDir(), "m.mlpackage")
	if _, err := quantize.Run(bg, quantize.Options{Model: exporttest.Copy(t, "llama-biases"), Out: q, GroupRows: 4}); err != nil {
		t.Fatal(err)
	}
	const peft = "../../recovery/testdata/llama"
	r, err := Export(bg, Options{Artifact: q, Out: out, Chunk: 4, AllowUnbound: true, Adapters: []Adapter{{Name: "my-lora", Dir: peft}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.Functions, " "); got != "decode prefill decode_my_lora prefill_my_lora" {
		t.Errorf("functions %s", got)
	}
	ids := fixtureIDs(t, "llama-biases")
	ids = ids[:min(len(ids), r.Context)]
	m, err := infer.Open(bg, q, infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := m.OpenAdapter(peft, true)
	if err != nil {
		t.Fatal(err)
	}
	base, adapted := logitsOf(m, ids), logitsOf(m.WithAdapter(a), ids)
	if d := worst(t, base, adapted); d < 0.1 {
		t.Fatalf("the adapter changes the logits by %v only", d)
	}
	if d := worst(t, packageLogits(t, out, "_my_lora", 4, ids, false), adapted); !(d <= 0.06) {
		t.Errorf("with the adapter: largest difference %.3g", d)
	}
	if d := worst(t, packageLogits(t, out, "", 4, ids, false), base); !(d <= 0.06) {
		t.Errorf("without it: largest difference %.3g", d)
	}
}

// The norm of fp16 values whose squares overflow, and of values whose squares vanish, is that of
// float64.
func TestNormOfLargeAndSmallValues(t *testing.T) {
	const eps = 1e-6
	for _, scale := range []float64{1e-7, 1e-4, 1, 255, 3000, 60000} {
		x := operand{dtype: half16, shape: []int{1, 64}}
		squares := 0.0
		for i := range 64 {
			v := float16.Fromfloat32(float32(scale * math.Sin(float64(7*i+1)))).Float32()
			x.data = append(x.data, v)
			squares += float64(v) * float64(v)
		}
		b := newBuilder(newWeightFile())
		ones := b.storedHalf("w", []int{64}, nil)
		y := b.rmsNorm(value{"x", half16, x.shape}, ones, math.Sqrt(eps))
		m := newMachine(encodeModel(versions[DefaultTarget], []function{{name: "f", blocks: b.ops}}, nil, nil), nil, "f")
		m.env["x"] = x
		for i := range m.ops {
			if m.ops[i].kind == "const" && m.ops[i].names[0] == ones.name {
				m.env[ones.name] = operand{dtype: half16, shape: []int{1}, data: []float32{1}}
				continue
			}
			m.step(&m.ops[i])
		}
		want := 1 / math.Sqrt(squares/64+eps)
		for i, got := range m.env[y.name].data {
			w := float64(x.data[i]) * want
			if math.Abs(float64(got)-w) > 3e-3*max(math.Abs(w), 1e-2) {
				t.Errorf("scale %v, element %d: %v, expected %v", scale, i, got, w)
				break
			}
		}
	}
}

func TestOtherFamilies(t *testing.T) {
	exporttest.Refuses(t, func(artifact, out string) error {
		_, err := Export(bg, Options{Artifact: artifact, Out: out})
		return err
	})
}

package mlx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/directory"
	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

var bg = context.Background()

const demoModel = "../../../internal/demo/model"

// mixed quantizes a model to several widths and keeps one matrix.
func mixed(t *testing.T, model string, form artifact.Form) string {
	t.Helper()
	return exporttest.Quantize(t, quantize.Options{Model: model, Form: form, Overrides: []sensitivity.Override{
		{Pattern: `layers\.0\.self_attn\.q_proj`, Form: "affine3_g32"}, {Pattern: `layers\.1\.mlp\.up_proj`, Bits: artifact.KeepBits},
	}})
}

// export exports an artifact and opens the weights.
func export(t *testing.T, opts Options) (*safetensors.File, *Result) {
	t.Helper()
	opts.Out = filepath.Join(t.TempDir(), "out")
	r, err := Export(bg, opts)
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(filepath.Join(opts.Out, artifact.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, r
}

// readConfig reads config.json beside a file.
func readConfig(t *testing.T, f *safetensors.File) (c map[string]any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(filepath.Dir(f.Path()), artifact.ConfigFile))
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Codes, scales and biases are the bytes of the artifact, and what MLX computes of them are its
// weights: bits and group size by config.json, codes from the least significant bit of a row on.
func TestCodes(t *testing.T) {
	q := mixed(t, demoModel, "affine5_g64")
	a, err := artifact.Open(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	f, r := export(t, Options{Artifact: q, ToolVersion: "v9"})
	config := readConfig(t, f)
	settings := config["quantization"].(map[string]any)
	codes, kept := 0, 0
	for i := range a.Layout {
		st := &a.Layout[i]
		x, _ := f.Tensor(st.Spec.Name)
		g, data, quantized := a.Grid(st)
		if !quantized {
			if len(st.Spec.Shape) == 2 {
				kept++
				if settings[st.Spec.Module()] != false {
					t.Errorf("%s: %v in config.json", st.Spec.Module(), settings[st.Spec.Module()])
				}
			}
			stored, _ := a.File.Tensor(st.Spec.Name)
			if x.DType != stored.DType || string(x.Bytes()) != string(stored.Bytes()) {
				t.Errorf("%s differs from the artifact", st.Spec.Name)
			}
			continue
		}
		codes++
		own := settings
		if o, ok := settings[st.Spec.Module()].(map[string]any); ok {
			own = o
		}
		bits, group := int(own["bits"].(float64)), int(own["group_size"].(float64))
		if want := g.(grid.Affine); want.Bits != bits || want.Group != group {
			t.Errorf("%s: %d bits in groups of %d, expected %v", st.Spec.Name, bits, group, want)
		}
		scales, _ := f.Tensor(st.Spec.Module() + ".scales")
		biases, _ := f.Tensor(st.Spec.Module() + ".biases")
		for k, y := range []*safetensors.Tensor{x, scales, biases} {
			if string(y.Bytes()) != string(data[k]) {
				t.Errorf("%s differs from the artifact", y.Name)
			}
		}
		want := make([]float32, st.Weights())
		fill, err := a.Rows(st)
		if err == nil {
			err = fill(want, 0, st.Spec.Shape[0])
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := dequantize(t, x, scales, biases, bits, group); !slices.Equal(got, want) {
			t.Errorf("%s: other weights than the artifact's", st.Spec.Name)
		}
	}
	if codes < 20 || kept != 1 || r.Quantized != codes || r.Kept != kept || r.Bits != 5 || r.GroupSize != 64 || r.Type != "float16" {
		t.Errorf("%d matrices in codes, %d kept; %+v", codes, kept, r)
	}
	if m := f.Metadata(); m["format"] != "mlx" || m["afmq.content_hash"] != r.ContentHash || m["afmq.version"] != "v9" || r.Bytes != f.Bytes() || r.Tensors != len(f.Names()) {
		t.Errorf("metadata %v, result %+v", m, r)
	}
	if config["quantization_config"] == nil || config["torch_dtype"] != "float16" || config["model_type"] != "qwen3" {
		t.Errorf("config.json %v", config)
	}
	files := exporttest.Contents(t, filepath.Dir(f.Path()))
	source := exporttest.Contents(t, q)
	if files["tokenizer.json"] != source["tokenizer.json"] || files["generation_config.json"] != source["generation_config.json"] || files["manifest.json"] != "" {
		t.Error("other files than the artifact's")
	}
}

// dequantize computes scale·q + bias as mlx.core.dequantize does.
func dequantize(t *testing.T, x, scales, biases *safetensors.Tensor, bits, group int) []float32 {
	t.Helper()
	values := func(x *safetensors.Tensor) []float32 {
		v := make([]float32, x.NumElements())
		if err := x.Float32(v, 0); err != nil {
			t.Fatal(err)
		}
		return v
	}
	s, z, data := values(scales), values(biases), x.Bytes()
	out := make([]float32, len(s)*group)
	for i := range out {
		q := 0
		for b := range bits {
			at := i*bits + b // the codes of a row fill whole bytes
			q |= int(data[at/8]>>(at%8)&1) << b
		}
		out[i] = float32(s[i/group]*float32(q)) + z[i/group]
	}
	return out
}

// Norms of another type than the scales are converted if that keeps their values, so that MLX does
// not compute in float32.
func TestPlainType(t *testing.T) {
	dir := exporttest.Copy(t, "llama2-f32")
	q := exporttest.Quantize(t, quantize.Options{Model: dir, Form: "affine4_g32"})
	f, r := export(t, Options{Artifact: q})
	if x, _ := f.Tensor("model.norm.weight"); x.DType != safetensors.F32 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "float32") {
		t.Errorf("%v norms, notes %q", x.DType, r.Notes)
	}
	// With values that F16 has.
	path := filepath.Join(dir, "model.safetensors")
	c, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header := int(c.HeaderBytes())
	c.Close()
	for i := header; i < len(data); i += 4 {
		data[i], data[i+1] = 0, data[i+1]&0xe0
	}
	exporttest.Write(t, path, data)
	q = exporttest.Quantize(t, quantize.Options{Model: dir, Form: "affine4_g32"})
	a, err := artifact.Open(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	f, r = export(t, Options{Artifact: q})
	for _, name := range []string{"model.norm.weight", "model.layers.0.mlp.down_proj.weight"} {
		x, _ := f.Tensor(name)
		y, _ := a.File.Tensor(name)
		got, want := make([]float32, x.NumElements()), make([]float32, y.NumElements())
		if err := errors.Join(x.Float32(got, 0), y.Float32(want, 0)); err != nil {
			t.Fatal(err)
		}
		if x.DType != safetensors.F16 || y.DType != safetensors.F32 || !slices.Equal(got, want) || len(r.Notes) > 0 {
			t.Errorf("%s is %v, with other values: %v, notes %q", name, x.DType, !slices.Equal(got, want), r.Notes)
		}
	}
}

// With a type, every tensor is dequantized and rounded to it, also that of a palette.
func TestTypes(t *testing.T) {
	for _, q := range []string{exporttest.Demo(t, 3), mixed(t, demoModel, "affine4_g64")} {
		a, err := artifact.Open(q)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		for as, want := range map[string]safetensors.DType{"f16": safetensors.F16, "bf16": safetensors.BF16} {
			f, r := export(t, Options{Artifact: q, As: as})
			if c := readConfig(t, f); c["quantization"] != nil || c["quantization_config"] != nil || c["torch_dtype"] != r.Type || r.As != as || r.Quantized != 0 {
				t.Errorf("%s: config.json %v, result %+v", as, c, r)
			}
			for i := range a.Layout {
				st := &a.Layout[i]
				values, half := make([]float32, st.Weights()), make([]uint16, st.Weights())
				fill, err := a.Rows(st)
				if err == nil {
					err = fill(values, 0, st.Spec.Shape[0])
				}
				if err != nil {
					t.Fatal(err)
				}
				if kernel.F32ToF16(half, values); as == "bf16" {
					kernel.F32ToBF16(half, values)
				}
				x, _ := f.Tensor(st.Spec.Name)
				got, err := safetensors.View[uint16](x)
				if err != nil || x.DType != want || !slices.Equal(x.Shape, st.Spec.Shape) || !slices.Equal(got, half) {
					t.Errorf("%s: %s differs from the artifact: %v", as, st.Spec.Name, err)
				}
			}
		}
	}
}

// palettizedEmbedding returns an artifact whose only palette is the embedding.
func palettizedEmbedding(t *testing.T) string {
	return exporttest.Quantize(t, quantize.Options{Model: "../../../internal/demo/model", Overrides: []sensitivity.Override{{Pattern: "_proj$", Bits: 16}, {Pattern: "embed_tokens", Bits: 3}}})
}

// Forms that MLX does not have are refused with the command that makes the right ones.
func TestNeedsGrid(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	for _, test := range []struct{ artifact, message, hint string }{
		{exporttest.Demo(t, 3), "no palettes: model.layers.0.self_attn.q_proj", "--grid affine --bits 3 "},
		{exporttest.Demo(t, 7), "no palettes", "--grid affine --bits 4 "},
		{palettizedEmbedding(t), "no palettes: model.embed_tokens", "--grid affine --bits 4 "},
		{exporttest.Quantize(t, quantize.Options{Model: demoModel, Form: "symmetric5_row"}), "no form symmetric5_row: model.layers.0.self_attn.q_proj", "--grid affine --bits 5 "},
		{exporttest.Quantize(t, quantize.Options{Model: demoModel, Form: "q8_0"}), "no form q8_0", "--grid affine --bits 8 "},
	} {
		_, err := Export(bg, Options{Artifact: test.artifact, Out: out})
		var e *fault.Error
		if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), test.message) || !errors.As(err, &e) || !strings.Contains(e.Hint, test.hint) {
			t.Errorf("%v, expected %q and the hint %q", err, test.message, test.hint)
		}
	}
}

// Equal inputs give equal bytes for any number of threads.
func TestReproducible(t *testing.T) {
	q, dir := mixed(t, demoModel, "affine4_g64"), t.TempDir()
	var files []map[string]string
	for _, threads := range []int{1, 3} {
		out := filepath.Join(dir, fmt.Sprint(threads))
		if _, err := Export(bg, Options{Artifact: q, Out: out, Threads: threads, ToolVersion: "v9"}); err != nil {
			t.Fatal(err)
		}
		files = append(files, exporttest.Contents(t, out))
	}
	if len(files[0]) < 5 || len(files[0]) != len(files[1]) {
		t.Fatalf("%d and %d files", len(files[0]), len(files[1]))
	}
	for name, data := range files[0] {
		if files[1][name] != data {
			t.Errorf("%s differs", name)
		}
	}
}

func TestRefused(t *testing.T) {
	q, dir := exporttest.Demo(t, 5), t.TempDir()
	out, full := filepath.Join(dir, "out"), t.TempDir()
	exporttest.Write(t, filepath.Join(full, "mine"), []byte("x"))
	for name, test := range map[string]struct {
		opts Options
		kind fault.Kind
		want string
	}{
		"no artifact":   {Options{Out: out}, fault.Usage, "no artifact"},
		"no directory":  {Options{Artifact: q}, fault.Usage, "no output"},
		"type":          {Options{Artifact: q, Out: out, As: "f32"}, fault.Usage, "f16, bf16"},
		"context":       {Options{Artifact: q, Out: out, As: "f16", Context: 1 << 20}, fault.Usage, "max_position_embeddings"},
		"exists":        {Options{Artifact: q, Out: full, As: "f16"}, fault.Output, "is not empty"},
		"checkpoint":    {Options{Artifact: demoModel, Out: out}, fault.Input, "manifest.json"},
		"adapter":       {Options{Artifact: q, Out: out, As: "f16", Adapters: []Adapter{{Name: "a", Dir: "../../recovery/testdata/llama"}}}, fault.Input, "adapter"},
		"adapter name":  {Options{Artifact: q, Out: out, Adapters: []Adapter{{Name: "a/b"}}}, fault.Usage, "a/b"},
		"parent":        {Options{Artifact: q, Out: out, Adapters: []Adapter{{Name: ".."}}}, fault.Usage, `".."`},
		"adapter names": {Options{Artifact: q, Out: out, Adapters: []Adapter{{Name: "a"}, {Name: "A"}}}, fault.Usage, "two adapters"},
	} {
		_, err := Export(bg, test.opts)
		if err == nil || fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v (%v), expected %v with %q", name, err, fault.KindOf(err), test.kind, test.want)
		}
	}
	if left := exporttest.Contents(t, dir); len(left) > 0 {
		t.Errorf("the refused exports left %d files", len(left))
	}
}

// A cancelled export leaves nothing, and neither does one whose file changes before it is read back.
func TestLeavesNothing(t *testing.T) {
	q := mixed(t, demoModel, "affine4_g64")
	for _, stage := range []string{StageWrite, StageRead} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(bg)
		_, err := Export(ctx, Options{Artifact: q, Out: filepath.Join(dir, "out"), Progress: &atStage{progress.Silent, stage, cancel}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, expected a cancellation", stage, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("%s: left %v", stage, entries)
		}
	}
	dir := t.TempDir()
	damage := func() {
		path := filepath.Join(dir, ".out.afmq", "out", artifact.WeightsFile)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1] ^= 1
		exporttest.Write(t, path, data)
	}
	_, err := Export(bg, Options{Artifact: q, Out: filepath.Join(dir, "out"), Progress: &atStage{progress.Silent, StageRead, damage}})
	if fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), "reads back with other bytes") {
		t.Errorf("%v, expected that a tensor differs", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left %v", entries)
	}
}

// atStage calls do when a stage begins.
type atStage struct {
	progress.Reporter
	stage string
	do    func()
}

func (p *atStage) Stage(s progress.Stage) {
	if s.Name == p.stage {
		p.do()
	}
}

// The index names every tensor.
func TestIndex(t *testing.T) {
	f, _ := export(t, Options{Artifact: mixed(t, demoModel, "affine4_g64")})
	data, err := os.ReadFile(filepath.Join(filepath.Dir(f.Path()), "model.safetensors.index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Map map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil || len(index.Map) != len(f.Names()) || index.Map["model.norm.weight"] != artifact.WeightsFile {
		t.Errorf("%v: %v", err, index)
	}
	if _, err := directory.ParseObject(data); err != nil {
		t.Error(err)
	}
}

package compressed

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

var bg = context.Background()

const demoModel = "../../../internal/demo/model"

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

// settings are what config.json says.
type settings struct {
	DType        string `json:"torch_dtype"`
	Quantization *struct {
		Method string `json:"quant_method"`
		Format string
		Status string `json:"quantization_status"`
		Ignore []string
		Groups map[string]struct {
			Targets []string
			Format  string
			Weights struct {
				Bits      int    `json:"num_bits"`
				GroupSize *int   `json:"group_size"`
				Symmetric bool   `json:"symmetric"`
				Strategy  string `json:"strategy"`
				Type      string `json:"type"`
			}
		} `json:"config_groups"`
	} `json:"quantization_config"`
}

func readConfig(t *testing.T, f *safetensors.File) (c settings) {
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

// of returns the bits, group size and symmetry of a module as compressed-tensors finds them: by name,
// else by class; 0 bits if the module is ignored.
func (c *settings) of(module string) (bits, group int, symmetric bool) {
	if slices.Contains(c.Quantization.Ignore, module) {
		return 0, 0, false
	}
	for _, target := range []string{module, "Linear"} {
		for _, g := range c.Quantization.Groups {
			if slices.Contains(g.Targets, target) {
				if w := g.Weights; w.GroupSize != nil {
					group = *w.GroupSize
				}
				return g.Weights.Bits, group, g.Weights.Symmetric
			}
		}
	}
	return 0, 0, false
}

// What compressed-tensors decompresses are the artifact's weights, for all bits, with groups, rows
// and zero points, with embeddings, kept matrices and a head of its own.
func TestCodes(t *testing.T) {
	for _, test := range []struct {
		model, form string
		overrides   []sensitivity.Override
		schemes     int
	}{
		{demoModel, "symmetric4_g64", []sensitivity.Override{{Pattern: `0\.self_attn\.[qkv]_proj`, Form: "symmetric3_g32"}, {Pattern: `1\.mlp\.(gate|up)_proj`, Bits: 16}, {Pattern: "o_proj", Form: "asymmetric5_row"}}, 4},
		{demoModel, "symmetric7_row", nil, 1},
		{demoModel, "asymmetric6_g32", nil, 1},
		{demoModel, "asymmetric2_row", nil, 1},
		{demoModel, "asymmetric8_g32", nil, 1},
		{"qwen2-bf16", "asymmetric3_row", nil, 1},
		{"llama3-bf16", "symmetric4_g32", []sensitivity.Override{{Pattern: "lm_head", Form: "symmetric8_g32"}}, 3},
		{"llama3-bf16", "symmetric4_g32", []sensitivity.Override{{Pattern: "lm_head", Form: "symmetric4_g32"}}, 2},
	} {
		t.Run(test.model[strings.LastIndexByte(test.model, '/')+1:]+" "+test.form, func(t *testing.T) {
			dir := test.model
			if dir != demoModel {
				dir = exporttest.Copy(t, dir)
			}
			q := exporttest.Quantize(t, quantize.Options{Model: dir, Form: artifact.Form(test.form), Overrides: test.overrides})
			a, err := artifact.Open(q)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			f, r := export(t, Options{Artifact: q})
			c := readConfig(t, f)
			if c.Quantization.Method != "compressed-tensors" || c.Quantization.Format != "pack-quantized" || c.Quantization.Status != "compressed" || c.DType != r.Type || len(r.Schemes) != test.schemes {
				t.Errorf("config.json %+v, schemes %v", c.Quantization, r.Schemes)
			}
			codes := 0
			for i := range a.Layout {
				st := &a.Layout[i]
				g, _, quantized := a.Grid(st)
				bits, group, symmetric := c.of(st.Spec.Module())
				if !quantized {
					x, _ := f.Tensor(st.Spec.Name)
					stored, _ := a.File.Tensor(st.Spec.Name)
					if string(x.Bytes()) != string(stored.Bytes()) || st.Spec.Role == model.Projection && bits != 0 {
						t.Errorf("%s differs from the artifact, or has %d bits", st.Spec.Name, bits)
					}
					continue
				}
				codes++
				if want := g.(grid.Integer); want.Bits != bits || want.Group != group || want.ZeroPoint == symmetric {
					t.Errorf("%s: %d bits in groups of %d, expected %v", st.Spec.Name, bits, group, want)
				}
				want := make([]float32, st.Weights())
				fill, err := a.Rows(st)
				if err == nil {
					err = fill(want, 0, st.Spec.Shape[0])
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := decompress(t, f, st.Spec.Module(), st.Spec.Shape, bits, symmetric); !slices.Equal(got, want) {
					t.Errorf("%s: other weights than the artifact's", st.Spec.Name)
				}
			}
			if codes < 8 || codes != r.Quantized || f.Metadata()["format"] != "pt" || f.Metadata()["afmq.content_hash"] != r.ContentHash {
				t.Errorf("%d matrices in codes: %+v", codes, r)
			}
			if tied := a.Config.TieEmbeddings; tied && !slices.Contains(c.Quantization.Ignore, "lm_head") {
				t.Errorf("ignore %v", c.Quantization.Ignore)
			}
		})
	}
}

// decompress computes the weights as PackedQuantizationCompressor.decompress: (q - zero)·scale, with
// the codes of a row, and the zero points of a column, in a run of bits.
func decompress(t *testing.T, f *safetensors.File, module string, shape []int, bits int, symmetric bool) []float32 {
	t.Helper()
	get := func(name string, dtype safetensors.DType, dims ...int) *safetensors.Tensor {
		x, ok := f.Tensor(module + name)
		if !ok || dtype != 0 && x.DType != dtype || len(dims) > 0 && !slices.Equal(x.Shape, dims) {
			t.Fatalf("%s%s: %+v, expected %v %v", module, name, x, dtype, dims)
		}
		return x
	}
	rows, cols := shape[0], shape[1]
	size := get(".weight_shape", safetensors.I64, 2).Bytes()
	if int(binary.LittleEndian.Uint64(size)) != rows || int(binary.LittleEndian.Uint64(size[8:])) != cols {
		t.Fatalf("%s.weight_shape %v", module, size)
	}
	packed := get(".weight_packed", safetensors.I32, rows, (cols*bits+31)/32)
	scales := get(".weight_scale", 0)
	groups := scales.Shape[1]
	scale := make([]float32, rows*groups)
	if err := scales.Float32(scale, 0); err != nil {
		t.Fatal(err)
	}
	// code returns code i of words that are step apart from the given one on.
	code := func(data []byte, first, step, i int) (q int) {
		for b := range bits {
			at := i*bits + b
			q |= int(data[4*(first+at/32*step)+at%32/8]>>(at%8)&1) << b
		}
		return q
	}
	var zeros *safetensors.Tensor
	if !symmetric {
		zeros = get(".weight_zero_point", safetensors.I32, (rows*bits+31)/32, groups)
	}
	out := make([]float32, rows*cols)
	for r := range rows {
		for j := range cols {
			k := j / (cols / groups)
			zero := 1 << (bits - 1)
			if zeros != nil {
				zero = code(zeros.Bytes(), k, groups, r)
			}
			out[r*cols+j] = float32(code(packed.Bytes(), r*packed.Shape[1], 1, j)-zero) * scale[r*groups+k]
		}
	}
	return out
}

// palettizedEmbedding returns an artifact whose only palette is the embedding.
func palettizedEmbedding(t *testing.T) string {
	return exporttest.Quantize(t, quantize.Options{Model: "../../../internal/demo/model", Overrides: []sensitivity.Override{{Pattern: "_proj$", Bits: 16}, {Pattern: "embed_tokens", Bits: 3}}})
}

// Forms that compressed-tensors does not have are refused with the command that makes the right ones.
func TestNeedsGrid(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	for _, test := range []struct{ artifact, message, hint string }{
		{exporttest.Demo(t, 3), "no palettes: model.layers.0.self_attn.q_proj", "--grid symmetric --bits 3 "},
		{exporttest.Demo(t, 1), "no palettes", "--grid symmetric --bits 4 "},
		{palettizedEmbedding(t), "no palettes: model.embed_tokens", "--grid symmetric --bits 4 "},
		{exporttest.Quantize(t, quantize.Options{Model: demoModel, Form: "affine5_g64"}), "no form affine5_g64", "--grid symmetric --bits 5 "},
	} {
		_, err := Export(bg, Options{Artifact: test.artifact, Out: out})
		var e *fault.Error
		if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), test.message) || !errors.As(err, &e) || !strings.Contains(e.Hint, test.hint) {
			t.Errorf("%v, expected %q and the hint %q", err, test.message, test.hint)
		}
	}
}

// With a type the directory is an ordinary checkpoint, also of a palette.
func TestTypes(t *testing.T) {
	q := exporttest.Demo(t, 3)
	f, r := export(t, Options{Artifact: q, As: "bf16"})
	if c := readConfig(t, f); c.Quantization != nil || c.DType != "bfloat16" || r.Quantized != 0 || len(r.Schemes) != 0 || r.As != "bf16" {
		t.Errorf("config.json %+v, result %+v", c, r)
	}
	src, err := artifact.OpenSource(bg, filepath.Dir(f.Path()))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for _, x := range src.Tensors {
		if x.Tensor.DType != safetensors.BF16 {
			t.Errorf("%s is %v", x.Spec.Name, x.Tensor.DType)
		}
	}
}

// Values that the type of the scales does not have are kept, and a note says so.
func TestPlainType(t *testing.T) {
	q := exporttest.Quantize(t, quantize.Options{Model: exporttest.Copy(t, "llama2-f32"), Form: "symmetric4_g32"})
	f, r := export(t, Options{Artifact: q})
	if x, _ := f.Tensor("model.norm.weight"); x.DType != safetensors.F32 || r.Type != "float16" || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "round them") {
		t.Errorf("%v norms, %+v", x.DType, r)
	}
}

// Equal inputs give equal bytes for any number of threads.
func TestReproducible(t *testing.T) {
	q, dir := exporttest.Quantize(t, quantize.Options{Model: demoModel, Form: "asymmetric3_g64"}), t.TempDir()
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
		"no artifact":  {Options{Out: out}, fault.Usage, "no artifact"},
		"no directory": {Options{Artifact: q}, fault.Usage, "no output"},
		"type":         {Options{Artifact: q, Out: out, As: "f32"}, fault.Usage, "f16, bf16"},
		"exists":       {Options{Artifact: q, Out: full, As: "f16"}, fault.Output, "is not empty"},
		"checkpoint":   {Options{Artifact: demoModel, Out: out}, fault.Input, "manifest.json"},
		"adapter":      {Options{Artifact: q, Out: out, As: "f16", Adapters: []Adapter{{Name: "a", Dir: "../../recovery/testdata/llama"}}}, fault.Input, "adapter"},
		"adapter name": {Options{Artifact: q, Out: out, Adapters: []Adapter{{Name: "a/b"}}}, fault.Usage, "a/b"},
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

// A cancelled export leaves nothing.
func TestCancelled(t *testing.T) {
	q := exporttest.Quantize(t, quantize.Options{Model: demoModel, Form: "symmetric3_g64"})
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

func TestOtherFamilies(t *testing.T) {
	exporttest.Refuses(t, func(artifact, out string) error {
		_, err := Export(bg, Options{Artifact: artifact, Out: out})
		return err
	})
}

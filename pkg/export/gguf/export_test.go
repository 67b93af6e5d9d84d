package gguf

import (
	"context"
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
	"afmq/pkg/ggml"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

var bg = context.Background()

// kept quantizes a checkpoint and keeps all projections as they are.
func kept(t *testing.T, dir string) string {
	t.Helper()
	return exporttest.Quantize(t, quantize.Options{Model: dir, Bits: 4, Overrides: []sensitivity.Override{{Pattern: "_proj", Bits: artifact.KeepBits}}})
}

// open exports an artifact and opens the file.
func open(t *testing.T, opts Options) (*file.File, *Result) {
	t.Helper()
	opts.Out = filepath.Join(t.TempDir(), "m.gguf")
	r, err := Export(bg, opts)
	if err != nil {
		t.Fatal(err)
	}
	f, err := file.Open(opts.Out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, r
}

// Palettes and 8-bit rows are dequantized and rounded to the type that was asked for.
func TestTypes(t *testing.T) {
	q := exporttest.Demo(t, 3)
	a, err := artifact.Open(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for name, as := range map[string]ggml.Type{"f16": ggml.F16, "bf16": ggml.BF16, "f32": ggml.F32} {
		f, r := open(t, Options{Artifact: q, As: name})
		if got, _ := file.Get[uint32](f, "general.file_type"); got != map[ggml.Type]uint32{ggml.F32: 0, ggml.F16: 1, ggml.BF16: 32}[as] {
			t.Errorf("%s: file_type %d", name, got)
		}
		if r.Bytes != f.Bytes() || r.Tensors != len(f.Tensors()) || r.As != name {
			t.Errorf("%s: %+v", name, r)
		}
		for i := range a.Layout {
			st := &a.Layout[i]
			fill, err := a.Rows(st)
			if err != nil {
				t.Fatal(err)
			}
			x, _ := f.Tensor(ggufmodel.TensorName(st.Spec))
			want := make([]float32, st.Weights())
			if err := fill(want, 0, st.Spec.Shape[0]); err != nil {
				t.Fatal(err)
			}
			kind := ggml.F32
			if len(st.Spec.Shape) == 2 {
				kind = as
			}
			bytes := make([]byte, kind.RowBytes(len(want)))
			if err := kind.Quantize(bytes, want, nil); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, x.Bytes())
			if err := x.ReadRows(got, 0); err != nil {
				t.Fatal(err)
			}
			if x.Type != kind || !slices.Equal(x.Shape, st.Spec.Shape) || string(got) != string(bytes) {
				t.Errorf("%s: %s differs from the artifact", name, x.Name)
			}
		}
	}
}

// Forms that GGUF does not have are refused without a type, palettes first.
func TestNeedsType(t *testing.T) {
	out := filepath.Join(t.TempDir(), "m.gguf")
	for q, want := range map[string]string{
		exporttest.Demo(t, 4): "no palettes: model.layers.0.self_attn.q_proj",
		exporttest.Quantize(t, quantize.Options{Model: "../../../internal/demo/model", Overrides: []sensitivity.Override{{Pattern: "_proj$", Bits: 16}, {Pattern: "embed_tokens", Bits: 3}}}): "no palettes: model.embed_tokens",
		kept(t, exporttest.Copy(t, "qwen2-bf16")): "no rows of 8 bits with one scale: model.embed_tokens",
	} {
		_, err := Export(bg, Options{Artifact: q, Out: out})
		var e *fault.Error
		if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), want) || !errors.As(err, &e) || !strings.Contains(e.Hint, "--as f16") {
			t.Errorf("%v, expected %q and a hint", err, want)
		}
	}
}

// Blocks are the bytes of the artifact; the rows of queries and keys of llama are in its order.
func TestBlocks(t *testing.T) {
	for _, name := range []string{"", "llama3-bf16"} {
		opts := quantize.Options{Model: "../../../internal/demo/model", Form: "q4_k", Overrides: []sensitivity.Override{{Pattern: "o_proj", Form: "q8_0"}, {Pattern: "v_proj", Bits: 16}}}
		if name != "" {
			opts.Model = exporttest.Copy(t, name)
		}
		q := exporttest.Quantize(t, opts)
		a, err := artifact.Open(q)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		f, r := open(t, Options{Artifact: q})
		if r.As != "" {
			t.Errorf("as %q", r.As)
		}
		arch, _ := ggufmodel.ArchitectureOf(a.Config.ModelType)
		blocks := 0
		for i := range a.Layout {
			st := &a.Layout[i]
			kind, block := st.Form.Block()
			if !block {
				continue
			}
			blocks++
			x, _ := f.Tensor(ggufmodel.TensorName(st.Spec))
			stored, _ := a.File.Tensor(st.Names[0])
			got := make([]byte, x.Bytes())
			if err := x.ReadRows(got, 0); err != nil {
				t.Fatal(err)
			}
			n, order := kind.RowBytes(st.Spec.Shape[1]), arch.CheckpointRow(st.Spec, a.Config.HeadDim)
			for row := range st.Spec.Shape[0] {
				from := row
				if order != nil {
					from = order(row)
				}
				if string(got[row*n:(row+1)*n]) != string(stored.Bytes()[from*n:(from+1)*n]) {
					t.Fatalf("row %d of %s differs from the artifact", row, x.Name)
				}
			}
			if x.Type != kind {
				t.Errorf("%s is %v, in the artifact %v", x.Name, x.Type, kind)
			}
		}
		if blocks < 10 {
			t.Errorf("%d matrices in blocks", blocks)
		}
		// With a type, blocks are dequantized like everything else.
		g, _ := open(t, Options{Artifact: q, As: "f32"})
		for _, x := range g.Tensors() {
			if x.Type != ggml.F32 {
				t.Errorf("%s is %v", x.Name, x.Type)
			}
		}
	}
}

// Equal inputs give equal bytes for any number of threads, and a name that Name sets.
func TestReproducible(t *testing.T) {
	q, dir := exporttest.Demo(t, 4), t.TempDir()
	var files []string
	for _, threads := range []int{1, 3} {
		out := filepath.Join(dir, fmt.Sprint(threads), "m.gguf")
		if _, err := Export(bg, Options{Artifact: q, Out: out, As: "f16", Threads: threads, ToolVersion: "v9"}); err != nil {
			t.Fatal(err)
		}
		files = append(files, exporttest.Contents(t, filepath.Dir(out))["m.gguf"])
	}
	if files[0] != files[1] || files[0] == "" {
		t.Error("two exports differ")
	}
	f, _ := open(t, Options{Artifact: q, As: "f16", Name: "a name", ToolVersion: "v9"})
	for key, want := range map[string]string{"general.name": "a name", "afmq.version": "v9", "general.type": "model"} {
		if got, err := file.Get[string](f, key); err != nil || got != want {
			t.Errorf("%s is %q, %v; expected %q", key, got, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	q, dir := exporttest.Demo(t, 5), t.TempDir()
	exporttest.Write(t, filepath.Join(dir, "full.gguf"), []byte("x"))
	exporttest.Write(t, filepath.Join(dir, "m-taken.gguf"), []byte("x"))
	out := filepath.Join(dir, "m.gguf")
	for name, test := range map[string]struct {
		opts Options
		kind fault.Kind
		want string
	}{
		"no artifact":    {Options{Out: out}, fault.Usage, "no artifact"},
		"no file":        {Options{Artifact: q}, fault.Usage, "no output"},
		"type":           {Options{Artifact: q, Out: out, As: "q4_0"}, fault.Usage, "f16, bf16, f32"},
		"context":        {Options{Artifact: q, Out: out, As: "f16", Context: 1 << 20}, fault.Usage, "max_position_embeddings"},
		"palettes":       {Options{Artifact: q, Out: out}, fault.Infeasible, "GGUF has no"},
		"exists":         {Options{Artifact: q, Out: filepath.Join(dir, "full.gguf"), As: "f16"}, fault.Output, "already exists"},
		"adapter exists": {Options{Artifact: q, Out: out, As: "f16", Adapters: []Adapter{{Name: "taken"}}}, fault.Output, "m-taken.gguf"},
		"checkpoint":     {Options{Artifact: "../../../internal/demo/model", Out: out}, fault.Input, "manifest.json"},
		"adapter":        {Options{Artifact: q, Out: out, As: "f16", Adapters: []Adapter{{Name: "a", Dir: "../../recovery/testdata/llama"}}}, fault.Input, "adapter"},
		"adapter name":   {Options{Artifact: q, Out: out, Adapters: []Adapter{{Name: "a/b"}}}, fault.Usage, "a/b"},
		"adapter names":  {Options{Artifact: q, Out: out, Adapters: []Adapter{{Name: "a"}, {Name: "a"}}}, fault.Usage, "two adapters"},
	} {
		_, err := Export(bg, test.opts)
		if err == nil || fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v (%v), expected %v with %q", name, err, fault.KindOf(err), test.kind, test.want)
		}
	}
	if left := exporttest.Contents(t, dir); len(left) != 2 {
		t.Errorf("the refused exports left %d files", len(left))
	}
}

// A value beyond the range of F16 is an error that names it, and bf16 has room for it.
func TestTooLargeForF16(t *testing.T) {
	dir := exporttest.Copy(t, "llama2-f32")
	path := filepath.Join(dir, "model.safetensors")
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := f.Tensor("model.layers.1.mlp.up_proj.weight")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(data), string(x.Bytes())) + 4*(3*32+5)
	copy(data[at:], []byte{0, 0xf8, 0x7f, 0x47}) // 65528
	f.Close()
	exporttest.Write(t, path, data)
	q := kept(t, dir)
	out := filepath.Join(t.TempDir(), "m.gguf")
	_, err = Export(bg, Options{Artifact: q, Out: out, As: "f16"})
	if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), `"model.layers.1.mlp.up_proj.weight": 65528 at row 3, column 5`) {
		t.Errorf("%v", err)
	}
	if left := exporttest.Contents(t, filepath.Dir(out)); len(left) > 0 {
		t.Errorf("left %d files", len(left))
	}
	b, _ := open(t, Options{Artifact: q, As: "bf16"})
	if got := values(t, b, "blk.1.ffn_up.weight")[3*32+5]; got != 65536 {
		t.Errorf("bf16: %v", got)
	}
}

// A cancelled export leaves nothing.
func TestCancelled(t *testing.T) {
	q, dir := exporttest.Demo(t, 4), t.TempDir()
	ctx, cancel := context.WithCancel(bg)
	_, err := Export(ctx, Options{Artifact: q, Out: filepath.Join(dir, "m.gguf"), As: "f16", Progress: &canceller{progress.Silent, cancel, false}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, expected a cancellation", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left %v", entries)
	}
}

// canceller cancels the job when the first tensor is written.
type canceller struct {
	progress.Reporter
	cancel  context.CancelFunc
	writing bool
}

func (c *canceller) Stage(s progress.Stage) { c.writing = s.Name == StageWrite }
func (c *canceller) Advance(int64) {
	if c.writing {
		c.cancel()
	}
}

// The file of an artifact has the size that Overhead and its matrices say, if its name is as long as
// Overhead assumes.
func TestOverhead(t *testing.T) {
	for _, name := range []string{"", "llama3-bf16"} {
		opts := quantize.Options{Model: "../../../internal/demo/model", Form: "q4_0"}
		if name != "" {
			opts.Model = exporttest.Copy(t, name)
		}
		q := exporttest.Quantize(t, opts)
		a, err := artifact.Open(q)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		_, r := open(t, Options{Artifact: q, Name: strings.Repeat("n", reservedName), ToolVersion: "1.2.3"})
		want, err := Overhead(opts.Model, "1.2.3")
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range a.Layout {
			if len(st.Spec.Shape) == 2 {
				want += (st.Bytes + Alignment - 1) / Alignment * Alignment
			}
		}
		if r.Bytes != want {
			t.Errorf("%s: %d bytes, expected %d", opts.Model, r.Bytes, want)
		}
	}
}

// A model with a sliding window is exported with a context that the window holds; its overhead is that
// of such a file.
func TestOverheadOfWindow(t *testing.T) {
	dir := exporttest.Copy(t, "llama2-f32")
	path := filepath.Join(dir, artifact.ConfigFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Overhead(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	windowed := strings.Replace(strings.NewReplacer(`"llama"`, `"mistral"`, "LlamaForCausalLM", "MistralForCausalLM").Replace(string(data)), "{", `{"sliding_window": 16,`, 1)
	if err := os.WriteFile(path, []byte(windowed), 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := Overhead(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if got != plain {
		t.Errorf("%d bytes with a window, %d without", got, plain)
	}
}

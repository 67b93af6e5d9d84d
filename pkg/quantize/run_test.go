package quantize

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

func TestRunTiny(t *testing.T) {
	pool := newPool(t, 2)
	out, res := run(t, pool, Options{Model: tinyModel, NoRowScale: true})
	v, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(out, artifact.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	l := res.Ledger
	if l.Total != st.Size() || res.Bytes != st.Size() || l.Indices+l.LUT+l.RowScale+l.Embedding+l.Other+l.Container != st.Size() {
		t.Errorf("ledger %+v, result %d, file of %d bytes", l, res.Bytes, st.Size())
	}
	// Computed by hand: 4 layers, d 128, 192 query and 64 key/value rows, FFN 352.
	q, kv, o, ffn := 192*128, 64*128, 128*192, 352*128
	weights := 4 * (q + 2*kv + o + 3*ffn)
	groups := 4 * (192/16 + 2*64/16 + 128/16 + 2*352/16 + 128/16)
	if want := int64(weights / 2); l.Indices != want {
		t.Errorf("%d bytes of indices, want %d", l.Indices, want)
	}
	if want := int64(groups * 16 * 2); l.LUT != want {
		t.Errorf("%d bytes of look-up tables, want %d", l.LUT, want)
	}
	if want := int64(2048*128 + 2048*4); l.Embedding != want {
		t.Errorf("%d bytes of embedding, want %d", l.Embedding, want)
	}
	if want := 8 * float64(l.Indices+l.LUT) / float64(weights); res.BPW.Projections != want {
		t.Errorf("projections have %v bpw, want %v", res.BPW.Projections, want)
	}
	norms := 4*(2*128+2*32) + 128
	if want := 8 * float64(l.Indices+l.LUT+l.Embedding+int64(2*norms)) / float64(weights+2048*128+norms); res.BPW.Model != want {
		t.Errorf("the model has %v bpw, want %v", res.BPW.Model, want)
	}
	if res.BPW.WithAdapter != nil || v.BPW != res.BPW || v.Ledger != l || v.ContentHash != res.ContentHash {
		t.Errorf("verify found %+v, quantize reported %+v", v, res)
	}
	var dirBytes int64
	for name, data := range contents(t, out) {
		if name != artifact.CardFile {
			dirBytes += int64(len(data))
		}
	}
	if res.DirectoryBytes != dirBytes || v.Bytes != dirBytes {
		t.Errorf("directory of %d bytes, quantize says %d, verify %d", dirBytes, res.DirectoryBytes, v.Bytes)
	}
	if len(res.Layers) != 4*7+1 || res.Layers[0].Name != "model.embed_tokens" || res.PeakRSSBytes <= 0 && runtime.GOOS == "linux" {
		t.Errorf("%d layers, first %+v, peak RSS %d", len(res.Layers), res.Layers[0], res.PeakRSSBytes)
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"} {
		if !bytes.Equal(readFile(t, filepath.Join(out, name)), readFile(t, filepath.Join(tinyModel, name))) {
			t.Errorf("%s is not the source's", name)
		}
	}
	cfg, err := model.LoadConfig(out)
	if err != nil || cfg.Quantization == nil || cfg.Quantization.Bits != 4 || cfg.Quantization.GroupRows != 16 || len(cfg.Quantization.Modules) != 0 {
		t.Errorf("the artifact's config: %+v, %v", cfg, err)
	}
	if _, err := infer.Open(bg, out, infer.OpenOptions{Pool: pool}); err != nil {
		t.Error(err)
	}
	wantOnly(t, out)
}

// wantOnly fails if the parent of the artifact has other entries.
func wantOnly(t *testing.T, out string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(out) {
			t.Errorf("%s lies beside the artifact", e.Name())
		}
	}
}

// Every stored value is compared with the source: palettes hold the nearest entry of the
// group's table, and the reported error is the actual one.
func TestRunValues(t *testing.T) {
	for _, c := range []struct {
		dtype safetensors.DType
		bits  int
		bias  bool
		over  []sensitivity.Override
	}{
		{safetensors.BF16, 4, true, []sensitivity.Override{{Pattern: "k_proj", Bits: 8}, {Pattern: "lm_head", Bits: 3}, {Pattern: "up_proj", Bits: 16}}},
		{safetensors.F32, 2, false, []sensitivity.Override{{Pattern: "lm_head", Bits: 16}}},
		{safetensors.F16, 3, false, nil},
	} {
		t.Run(fmt.Sprint(c.dtype, c.bits), func(t *testing.T) {
			pool := newPool(t, 2)
			model := newSynthetic(c.dtype, c.bias).write(t, 1)
			out, res := run(t, pool, Options{Model: model, Bits: c.bits, GroupRows: 5, Overrides: c.over, NoRowScale: true})
			if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: pool}); err != nil {
				t.Fatal(err)
			}
			ckpt, err := safetensors.OpenCheckpoint(model)
			if err != nil {
				t.Fatal(err)
			}
			defer ckpt.Close()
			a := openArtifact(t, out)
			layers := map[string]artifact.ModuleRecord{}
			for _, l := range res.Layers {
				layers[l.Name] = l
			}
			for i := range a.Layout {
				st := &a.Layout[i]
				src, _ := ckpt.Tensor(st.Spec.Name)
				want := make([]float32, src.NumElements())
				if err := src.Float32(want, 0); err != nil {
					t.Fatal(err)
				}
				got := denseValues(t, a, st)
				var e, n float64
				for k := range want {
					d := float64(want[k]) - float64(got[k])
					e += d * d
					n += float64(want[k]) * float64(want[k])
				}
				switch st.Form {
				case artifact.Plain:
					if e != 0 {
						t.Errorf("%s was to be kept and changed", st.Spec.Name)
					}
				case artifact.Palette:
					checkNearest(t, a, st, want, got)
				}
				if len(st.Spec.Shape) < 2 {
					continue
				}
				if l := layers[st.Spec.Module()]; math.Abs(l.RelError-math.Sqrt(e/n)) > 1e-9 || l.Bits != st.Bits || l.Form != st.Form || l.Bytes != st.Bytes {
					t.Errorf("%s: reported %+v, found error %v in %+v", st.Spec.Name, l, math.Sqrt(e/n), st)
				}
			}
		})
	}
}

func openArtifact(t *testing.T, dir string) *artifact.Reader {
	t.Helper()
	a, err := artifact.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.File.Close() })
	return a
}

// denseValues dequantizes a stored tensor by the definition of the format.
func denseValues(t *testing.T, a *artifact.Reader, st *artifact.StoredTensor) []float32 {
	t.Helper()
	var parts []*safetensors.Tensor
	for _, n := range st.Names {
		x, _ := a.File.Tensor(n)
		parts = append(parts, x)
	}
	out := make([]float32, st.Weights())
	switch st.Form {
	case artifact.Plain:
		if err := parts[0].Float32(out, 0); err != nil {
			t.Fatal(err)
		}
	case artifact.RowInt8:
		scale := make([]float32, st.Spec.Shape[0])
		if err := parts[1].Float32(scale, 0); err != nil {
			t.Fatal(err)
		}
		for i, b := range parts[0].Bytes() {
			out[i] = float32(int8(b)) * scale[i/st.Spec.Shape[1]]
		}
	case artifact.Palette:
		lut := make([]float32, parts[1].NumElements())
		if err := parts[1].Float32(lut, 0); err != nil {
			t.Fatal(err)
		}
		rows, cols := st.Spec.Shape[0], st.Spec.Shape[1]
		scale := slices.Repeat([]float32{1}, rows)
		if len(parts) > 2 {
			if err := parts[2].Float32(scale, 0); err != nil {
				t.Fatal(err)
			}
		}
		rowBytes := (cols*st.Bits + 7) / 8
		for r := range rows {
			row := parts[0].Bytes()[r*rowBytes : (r+1)*rowBytes]
			for c := range cols {
				k := 0
				for b := range st.Bits {
					at := c*st.Bits + b
					k |= int(row[at/8]>>(at%8)&1) << b
				}
				out[r*cols+c] = lut[r/a.Manifest.Plan.GroupRows<<st.Bits+k] * scale[r]
			}
		}
	}
	return out
}

func checkNearest(t *testing.T, a *artifact.Reader, st *artifact.StoredTensor, want, got []float32) {
	t.Helper()
	x, _ := a.File.Tensor(st.Names[1])
	lut := make([]float32, x.NumElements())
	if err := x.Float32(lut, 0); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		g := i / st.Spec.Shape[1] / a.Manifest.Plan.GroupRows
		best := math.Inf(1)
		for _, v := range lut[g<<st.Bits : (g+1)<<st.Bits] {
			best = min(best, math.Abs(float64(v)-float64(want[i])))
		}
		if d := math.Abs(float64(got[i]) - float64(want[i])); d > best {
			t.Fatalf("%s: %v became %v; an entry is nearer", st.Spec.Name, want[i], got[i])
		}
	}
}

func TestThreadsGiveTheSameBytes(t *testing.T) {
	model := newSynthetic(safetensors.BF16, true).write(t, 1)
	opts := Options{Model: model, Bits: 3, Overrides: []sensitivity.Override{{Pattern: "down_proj", Bits: 8}}, NoRowScale: true}
	one, _ := run(t, newPool(t, 1), opts)
	three, _ := run(t, newPool(t, 3), opts)
	sameContents(t, three, one)
	one, _ = run(t, newPool(t, 1), Options{Model: tinyModel, Bits: 2, NoRowScale: true})
	three, _ = run(t, newPool(t, 3), Options{Model: tinyModel, Bits: 2, NoRowScale: true})
	sameContents(t, three, one)
}

// The shards of a checkpoint and the name of a tied weight do not affect the artifact.
func TestFormsOfTheSameCheckpoint(t *testing.T) {
	pool := newPool(t, 2)
	s := newSynthetic(safetensors.BF16, false)
	one, _ := run(t, pool, Options{Model: s.write(t, 1), NoRowScale: true})
	three, _ := run(t, pool, Options{Model: s.write(t, 3), NoRowScale: true})
	sameContents(t, three, one)

	var first string
	for _, names := range [][]string{{"model.embed_tokens.weight"}, {"lm_head.weight"}, {"lm_head.weight", "model.embed_tokens.weight"}} {
		s := newSynthetic(safetensors.BF16, false)
		s.tie(names...)
		out, _ := run(t, pool, Options{Model: s.write(t, 1), NoRowScale: true})
		if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: pool}); err != nil {
			t.Errorf("%v: %v", names, err)
		}
		weights := string(readFile(t, filepath.Join(out, artifact.WeightsFile)))
		if first == "" {
			first = weights
		}
		if weights != first {
			t.Errorf("stored as %v: other tensors", names)
		}
	}
}

func TestRefusedCheckpoints(t *testing.T) {
	nan := func(name string, index int) func(*synthetic) {
		return func(s *synthetic) { copy(s.tensor(name).data[4*index:], []byte{0, 0, 0xc0, 0x7f}) }
	}
	inf := func(name string, index int) func(*synthetic) {
		return func(s *synthetic) { copy(s.tensor(name).data[4*index:], []byte{0, 0, 0x80, 0x7f}) }
	}
	const up = "model.layers.1.mlp.up_proj.weight"
	for _, c := range []struct {
		name   string
		change func(*synthetic)
		parts  []string
	}{
		{"NaN in a projection", nan(up, 17*synHidden+3), []string{"model.safetensors", up, "NaN", "row 17, column 3"}},
		{"Inf in a projection", inf(up, 5), []string{up, "Inf", "row 0, column 5"}},
		{"NaN in the embedding", nan("model.embed_tokens.weight", 1000), []string{"model.embed_tokens.weight", "NaN at index 1000"}},
		{"Inf in the head", inf("lm_head.weight", 7), []string{"lm_head.weight", "+Inf at index 7"}},
		{"NaN in a norm", nan("model.norm.weight", 23), []string{"model.norm.weight", "NaN at index 23"}},
		{"too large for fp16", func(s *synthetic) {
			copy(s.tensor(up).data[4:], floatBytes(safetensors.F32, []float32{1e6}))
		}, []string{up, "row 0, column 1"}},
		{"missing", func(s *synthetic) { s.drop(up) }, []string{up, "missing"}},
		{"extra", func(s *synthetic) {
			s.tensors = append(s.tensors, tensor{"model.layers.2.mlp.up_proj.weight", safetensors.F32, []int{1}, make([]byte, 4)})
		}, []string{"model.layers.2.mlp.up_proj.weight", "is not part of"}},
		{"bias the config does not have", func(s *synthetic) {
			s.tensors = append(s.tensors, tensor{"model.layers.0.self_attn.q_proj.bias", safetensors.F32, []int{24}, make([]byte, 96)})
		}, []string{"model.layers.0.self_attn.q_proj.bias", "is not part of"}},
		{"misshapen", func(s *synthetic) {
			x := s.tensor(up)
			x.shape = []int{synHidden, synFFN}
		}, []string{up, "[24 40]", "[40 24]"}},
		{"type", func(s *synthetic) {
			x := s.tensor(up)
			x.dtype, x.shape = safetensors.I32, slices.Clone(x.shape)
		}, []string{up, "I32"}},
		{"ids beyond the embedding", func(s *synthetic) {
			s.config["vocab_size"] = synVocab - 1
			for _, n := range []string{"model.embed_tokens.weight", "lm_head.weight"} {
				x := s.tensor(n)
				x.shape = []int{synVocab - 1, synHidden}
				x.data = x.data[:4*(synVocab-1)*synHidden]
			}
		}, []string{"tokenizer.json", "2047", "config.json"}},
		{"quantized by another tool", func(s *synthetic) {
			s.config["quantization_config"] = map[string]any{"quant_method": "gptq", "bits": 4}
		}, []string{"config.json", "quantized already"}},
		{"tied, stored twice, not equal", func(s *synthetic) {
			s.tie("model.embed_tokens.weight", "lm_head.weight")
			s.tensor("lm_head.weight").data[0] ^= 1
		}, []string{"model.embed_tokens.weight", "lm_head.weight", "differ"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSynthetic(safetensors.F32, false)
			c.change(s)
			parent := t.TempDir()
			_, err := runOn(bg, newPool(t, 2), Options{Model: s.write(t, 1), Out: filepath.Join(parent, "out"), NoRowScale: true})
			wantFault(t, err, fault.Input, c.parts...)
			wantEmpty(t, parent)
		})
	}
}

func TestRefusedDirectories(t *testing.T) {
	pool := newPool(t, 2)
	artifact, _ := run(t, pool, Options{Model: tinyModel, NoRowScale: true})
	noTokenizer := newSynthetic(safetensors.F32, false).write(t, 1)
	if err := os.Remove(filepath.Join(noTokenizer, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	noConfig := newSynthetic(safetensors.F32, false).write(t, 1)
	if err := os.Remove(filepath.Join(noConfig, "config.json")); err != nil {
		t.Fatal(err)
	}
	noShard := newSynthetic(safetensors.F32, false).write(t, 3)
	if err := os.Remove(filepath.Join(noShard, "model-00002-of-00003.safetensors")); err != nil {
		t.Fatal(err)
	}
	cut := newSynthetic(safetensors.F32, false).write(t, 1)
	if err := os.Truncate(filepath.Join(cut, "model.safetensors"), 5000); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, part string }{
		{artifact, "quantized already"},
		{noTokenizer, "tokenizer.json"},
		{noConfig, "config.json"},
		{noShard, "model-00002-of-00003.safetensors"},
		{cut, "model.safetensors"},
		{filepath.Join(artifact, "no"), "does not exist"},
		{filepath.Join(artifact, "config.json"), "not a directory"},
	} {
		parent := t.TempDir()
		_, err := runOn(bg, pool, Options{Model: c.dir, Out: filepath.Join(parent, "out"), NoRowScale: true})
		wantFault(t, err, fault.Input, c.part)
		wantEmpty(t, parent)
	}
}

func TestRefusedOptions(t *testing.T) {
	pool := newPool(t, 1)
	for _, c := range []struct {
		opts Options
		part string
	}{
		{Options{Bits: 9}, "9"},
		{Options{Bits: -1}, "-1"},
		{Options{GroupRows: -1}, "-1"},
		{Options{Overrides: []sensitivity.Override{{Pattern: "(", Bits: 4}}}, "("},
		{Options{Overrides: []sensitivity.Override{{Pattern: "nothing_proj", Bits: 4}}}, "matches no module"},
	} {
		parent := t.TempDir()
		c.opts.Model, c.opts.Out = tinyModel, filepath.Join(parent, "out")
		_, err := runOn(bg, pool, c.opts)
		wantFault(t, err, fault.Usage, c.part)
		wantEmpty(t, parent)
	}
	if _, err := runOn(bg, pool, Options{Model: tinyModel, NoRowScale: true}); fault.KindOf(err) != fault.Usage {
		t.Errorf("no output directory: %v", err)
	}
}

func TestRefusedTargets(t *testing.T) {
	pool := newPool(t, 1)
	full := t.TempDir()
	writeFile(t, filepath.Join(full, "precious"), []byte("x"))
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, []byte("x"))
	for _, out := range []string{full, file, tinyModel} {
		_, err := runOn(bg, pool, Options{Model: tinyModel, Out: out, NoRowScale: true})
		wantFault(t, err, fault.Output)
	}
	if got := contents(t, full); len(got) != 1 || got["precious"] != "x" {
		t.Errorf("the directory now holds %v", got)
	}
	empty := t.TempDir()
	out, _ := run(t, pool, Options{Model: tinyModel, Out: empty, NoRowScale: true})
	if _, err := artifact.Verify(bg, out, artifact.VerifyOptions{Pool: pool}); err != nil {
		t.Error(err)
	}
}

// Only tensors that follow from config.json are left out.
func TestIgnorableTensors(t *testing.T) {
	pool := newPool(t, 1)
	s := newSynthetic(safetensors.BF16, false)
	plain, _ := run(t, pool, Options{Model: s.write(t, 1), NoRowScale: true})
	s.tensors = append(s.tensors, tensor{"model.layers.0.self_attn.rotary_emb.inv_freq", safetensors.F32, []int{4}, make([]byte, 16)})
	with, _ := run(t, pool, Options{Model: s.write(t, 1), NoRowScale: true})
	if !bytes.Equal(readFile(t, filepath.Join(plain, artifact.WeightsFile)), readFile(t, filepath.Join(with, artifact.WeightsFile))) {
		t.Error("an inverse frequency changed the weights")
	}
}

// The source digest identifies the content of the checkpoint.
func TestSourceDigest(t *testing.T) {
	pool := newPool(t, 1)
	s := newSynthetic(safetensors.BF16, false)
	digest := func() string {
		out, _ := run(t, pool, Options{Model: s.write(t, 1), NoRowScale: true})
		return openArtifact(t, out).Manifest.Source.Digest
	}
	first := digest()
	s.tensor("model.norm.weight").data[0] ^= 1
	if digest() == first {
		t.Error("another norm, the same source digest")
	}
}

// The zero options are the documented defaults.
func TestZeroOptions(t *testing.T) {
	zero, explicit := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "out")
	if _, err := Run(bg, Options{Model: tinyModel, Out: zero}); err != nil {
		t.Fatal(err)
	}
	_, err := Run(bg, Options{
		Model: tinyModel, Out: explicit, Bits: 4, GroupRows: 16, Method: sensitivity.Fisher, Compensate: artifact.NoCompensation, Compute: compute.F32,
		Threads: 1, Progress: progress.Silent, ToolVersion: "unknown",
	})
	if err != nil {
		t.Fatal(err)
	}
	sameContents(t, zero, explicit)
	m, err := artifact.ReadManifest(zero)
	if err != nil {
		t.Fatal(err)
	}
	if p := m.Plan; p.Bits != 4 || p.GroupRows != 16 || !p.RowScale || p.Compensation != artifact.NoCompensation || m.Ledger.RowScale == 0 {
		t.Errorf("%+v, row scales of %d bytes", p, m.Ledger.RowScale)
	}
	_, err = Run(bg, Options{Out: zero})
	wantFault(t, err, fault.Usage, "checkpoint")
	_, err = Dequantize(bg, DequantizeOptions{Out: zero})
	wantFault(t, err, fault.Usage, "artifact")
	_, err = Dequantize(bg, DequantizeOptions{Artifact: zero})
	wantFault(t, err, fault.Usage, "output")
}

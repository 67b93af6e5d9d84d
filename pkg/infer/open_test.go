package infer

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// stored is one tensor of a checkpoint to be written.
type stored struct {
	safetensors.Info
	data []byte
}

// readFixture reads config and tensors of a fixture, in the order of the file.
func readFixture(t *testing.T, name string) (map[string]any, []stored) {
	t.Helper()
	dir := filepath.Join(fixtures, name)
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	var out []stored
	for _, n := range ckpt.Names() {
		x, _ := ckpt.Tensor(n)
		out = append(out, stored{safetensors.Info{Name: n, DType: x.DType, Shape: x.Shape}, slices.Clone(x.Bytes())})
	}
	return config, out
}

func writeCheckpoint(t *testing.T, config map[string]any, tensors []stored) string {
	t.Helper()
	dir := t.TempDir()
	data, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), data, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	var infos []safetensors.Info
	for _, x := range tensors {
		infos = append(infos, x.Info)
	}
	w, err := safetensors.Create(filepath.Join(dir, "model.safetensors"), infos, nil)
	for i := 0; i < len(tensors) && err == nil; i++ {
		err = w.Write(tensors[i].Name, tensors[i].data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func find(t *testing.T, tensors []stored, name string) *stored {
	t.Helper()
	for i := range tensors {
		if tensors[i].Name == name {
			return &tensors[i]
		}
	}
	t.Fatalf("no tensor %s", name)
	return nil
}

// Files that do not hold the model that config.json describes are refused, with
// the tensor named.
func TestOpenRefuses(t *testing.T) {
	pool := newPool(t, 2)
	const q = "model.layers.1.self_attn.q_proj.weight"
	for name, tc := range map[string]struct {
		edit func(config map[string]any, tensors []stored) []stored
		want string
	}{
		"missing": {func(_ map[string]any, x []stored) []stored {
			return slices.DeleteFunc(x, func(s stored) bool { return s.Name == q })
		}, q},
		"other shape": {func(_ map[string]any, x []stored) []stored {
			s := find(t, x, q)
			s.Shape = []int{s.Shape[1], s.Shape[0], 1}
			return x
		}, q},
		"other type": {func(_ map[string]any, x []stored) []stored {
			s := find(t, x, q)
			s.DType = safetensors.I32
			return x
		}, "I32"},
		"one more layer": {func(c map[string]any, x []stored) []stored { c["num_hidden_layers"] = 3; return x }, "model.layers.2."},
		"one layer less": {func(c map[string]any, x []stored) []stored { c["num_hidden_layers"] = 1; return x }, "model.layers.1."},
		"not a number": {func(_ map[string]any, x []stored) []stored {
			s := find(t, x, "model.norm.weight")
			copy(s.data[4:], []byte{0, 0, 0xc0, 0x7f})
			return x
		}, `"model.norm.weight" holds NaN at index 1`},
		"tied, but different": {func(c map[string]any, x []stored) []stored {
			c["tie_word_embeddings"] = true
			return x
		}, "differ"},
		"palette without config": {func(_ map[string]any, x []stored) []stored {
			s := find(t, x, q)
			s.Name, s.DType, s.Shape = q+artifact.SuffixIndices, safetensors.U8, []int{len(s.data)}
			return x
		}, "quantization_config"},
	} {
		t.Run(name, func(t *testing.T) {
			config, tensors := readFixture(t, "llama2-f32")
			dir := writeCheckpoint(t, config, tc.edit(config, tensors))
			_, err := OpenWeights(bg, dir, OpenOptions{Pool: pool})
			if fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), dir) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v; want one with %q", err, tc.want)
			}
		})
	}
	config, tensors := readFixture(t, "llama2-f32")
	if _, err := OpenWeights(bg, writeCheckpoint(t, config, tensors), OpenOptions{Pool: pool}); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// A tied model may store the embedding, the head, or equal copies of both.
func TestTiedCopies(t *testing.T) {
	pool := newPool(t, 1)
	config, tensors := readFixture(t, "qwen3-tied-f16")
	ids, _ := expected(t, filepath.Join(fixtures, "qwen3-tied-f16"))
	want := allLogits(openFixture(t, writeCheckpoint(t, config, tensors), pool), pool, ids)
	head := *find(t, tensors, "model.embed_tokens.weight")
	head.Name = "lm_head.weight"
	both := append(slices.Clone(tensors), head)
	if got := allLogits(openFixture(t, writeCheckpoint(t, config, both), pool), pool, ids); !slices.Equal(got, want) {
		t.Error("a second copy changes the logits")
	}
}

func bytesOf[T uint8 | int8 | uint16 | float32](v []T) []byte {
	var out []byte
	for _, x := range v {
		switch x := any(x).(type) {
		case uint8:
			out = append(out, x)
		case int8:
			out = append(out, byte(x))
		case uint16:
			out = append(out, byte(x), byte(x>>8))
		case float32:
			b := math.Float32bits(x)
			out = append(out, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
		}
	}
	return out
}

// A palettized model computes what a dense one does whose weights are those that
// the palettes stand for: on every width of index, with and without row scales,
// with an 8-bit embedding, on rows that 16 does not divide.
func TestPalettesStandForTheirWeights(t *testing.T) {
	pool := newPool(t, 2)
	const fixture = "qwen3-shards-bf16"
	ids, _ := expected(t, filepath.Join(fixtures, fixture))
	for bits := 1; bits <= 8; bits++ {
		config, tensors := readFixture(t, fixture)
		cfg, err := model.LoadConfig(filepath.Join(fixtures, fixture))
		if err != nil {
			t.Fatal(err)
		}
		role := map[string]model.Role{}
		for _, s := range cfg.Tensors() {
			role[s.Name] = s.Role
		}
		var packed, dense []stored
		for _, x := range tensors {
			if len(x.Shape) != 2 {
				packed, dense = append(packed, x), append(dense, x)
				continue
			}
			p, w := compress(t, pool, x, role[x.Name], bits)
			packed, dense = append(packed, p...), append(dense, w)
		}
		want := allLogits(openFixture(t, writeCheckpoint(t, config, dense), pool), pool, ids)
		config["quantization_config"] = map[string]any{"quant_method": "afmq", "version": 1, "bits": bits, "group_rows": 16}
		got := allLogits(openFixture(t, writeCheckpoint(t, config, packed), pool), pool, ids)
		// A row's factor multiplies its sum in one model and every weight in the other, which
		// rounds differently: in proportion to the terms of a sum, not to what is left of them.
		size := 0.0
		for _, v := range want {
			size = max(size, math.Abs(float64(v)))
		}
		for i := range want {
			if math.Abs(float64(got[i]-want[i])) > 5e-6*size {
				t.Fatalf("%d bits: logit %d is %v, the dense model has %v, the largest %v", bits, i, got[i], want[i], size)
			}
		}
	}
}

// compress returns the tensors that stand for the BF16 matrix x, and the F32
// matrix that they stand for.
func compress(t *testing.T, pool *compute.Pool, x stored, role model.Role, bits int) ([]stored, stored) {
	t.Helper()
	rows, cols := x.Shape[0], x.Shape[1]
	raw := make([]uint16, rows*cols)
	for i := range raw {
		raw[i] = uint16(x.data[2*i]) | uint16(x.data[2*i+1])<<8
	}
	w := make([]float32, rows*cols)
	info := func(suffix string, d safetensors.DType, shape ...int) safetensors.Info {
		return safetensors.Info{Name: x.Name + suffix, DType: d, Shape: shape}
	}
	if role != model.Projection {
		q, scale := make([]int8, rows*cols), make([]float32, rows)
		for i := range q {
			q[i], scale[i/cols] = int8(i*37), float32(i/cols+1)/4096
			w[i] = float32(q[i]) * scale[i/cols]
		}
		return []stored{{info(artifact.SuffixInt8, safetensors.I8, rows, cols), bytesOf(q)}, {info(artifact.SuffixScale, safetensors.F32, rows), bytesOf(scale)}},
			stored{info("", safetensors.F32, rows, cols), bytesOf(w)}
	}
	m, _, err := palettize.Palettize(pool, palettize.Source{BF16: raw}, rows, cols, palettize.Options{Bits: bits, NoRowScale: true})
	if err != nil {
		t.Fatal(err)
	}
	if bits%2 == 0 {
		m.RowScale = make([]uint16, rows)
		for i := range m.RowScale {
			m.RowScale[i] = 0x3c00 + uint16(i%7)*64 // 1 and a little more
		}
	}
	m.DequantizeRows(w, 0, rows)
	out := []stored{{info(artifact.SuffixIndices, safetensors.U8, rows, m.RowBytes()), m.Indices}, {info(artifact.SuffixLUT, safetensors.F16, m.Groups(), 1<<bits), bytesOf(m.LUT)}}
	if m.RowScale != nil {
		out = append(out, stored{info(artifact.SuffixRowScale, safetensors.F16, rows), bytesOf(m.RowScale)})
	}
	return out, stored{info("", safetensors.F32, rows, cols), bytesOf(w)}
}

// Matrices that two models store alike are in memory once; others are not touched.
func TestOpenShares(t *testing.T) {
	eachFixture(t, func(t *testing.T, dir string) {
		a := openFixture(t, dir, nil)
		b, err := OpenWeights(bg, dir, OpenOptions{Share: a})
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range a.Config.Tensors() {
			if x := a.matrix(spec); x != nil && *x != *b.matrix(spec) {
				t.Errorf("%s is in memory twice", spec.Name)
			}
		}
		changed := *a
		changed.Blocks = slices.Clone(a.Blocks)
		other := make([]float32, a.Blocks[0].O.Weight.Rows()*a.Blocks[0].O.Weight.Cols())
		changed.Blocks[0].O.Weight = compute.PackF32(a.Blocks[0].O.Weight.Rows(), a.Blocks[0].O.Weight.Cols(), other)
		if b, err = OpenWeights(bg, dir, OpenOptions{Share: &changed}); err != nil {
			t.Fatal(err)
		}
		if b.Blocks[0].O.Weight == changed.Blocks[0].O.Weight || !b.Blocks[0].O.Weight.Equal(a.Blocks[0].O.Weight) {
			t.Error("a matrix was replaced by another one")
		}
	})
}

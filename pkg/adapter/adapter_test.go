package adapter

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// adapterFixture is an adapter that PEFT wrote, and the checkpoint that it is for.
const (
	adapterFixture = "../recovery/testdata/llama"
	adapterModel   = fixtures + "/llama-biases"
	fixtures       = "../infer/testdata/models"
)

func writeFileAt(path string, data []byte) error { return os.WriteFile(path, data, 0o666) }

func loadConfig(t testing.TB, dir string) *model.Config {
	t.Helper()
	cfg, err := model.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestReadAdapterOfPEFT checks ranks and scales that patterns give.
func TestReadAdapterOfPEFT(t *testing.T) {
	cfg := loadConfig(t, adapterModel)
	a, err := Read(adapterFixture, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for module, want := range map[string]struct {
		rank  int
		scale float32
	}{
		"model.layers.0.self_attn.q_proj": {7, 4.0 / 7},
		"model.layers.1.self_attn.q_proj": {5, 4.0 / 5}, // the first pattern that matches
		"model.layers.0.self_attn.o_proj": {4, 1},
		"model.layers.0.mlp.down_proj":    {2, 2},
		"model.layers.0.mlp.up_proj":      {4, 3.0 / 4},
	} {
		w, spec := a.Modules[module], projection(t, cfg, module)
		rank, scale := a.Config.RankOf(module), a.Config.ScaleOf(module)
		if rank != want.rank || scale != want.scale || len(w.A) != rank*spec.Shape[1] || len(w.B) != spec.Shape[0]*rank {
			t.Errorf("%s: rank %d, scale %v, %d and %d values; want rank %d and scale %v", module, rank, scale, len(w.A), len(w.B), want.rank, want.scale)
		}
	}
	if len(a.Modules) != 14 || a.Base != "" {
		t.Errorf("%d modules, base %q", len(a.Modules), a.Base)
	}
}

// projection returns the projection of that name.
func projection(t *testing.T, cfg *model.Config, module string) model.TensorSpec {
	t.Helper()
	for _, spec := range cfg.Tensors() {
		if spec.Role == model.Projection && spec.Module() == module {
			return spec
		}
	}
	t.Fatalf("no projection is called %s", module)
	return model.TensorSpec{}
}

// TestAdapterRoundTrip writes what it read, in both types, and reads it again.
func TestAdapterRoundTrip(t *testing.T) {
	for _, name := range []string{"llama", "mistral", "qwen2", "layers"} {
		fixture := filepath.Join("../recovery/testdata", name)
		f, err := safetensors.Open(filepath.Join(fixture, "expected.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		cfg := loadConfig(t, filepath.Join(fixtures, f.Metadata()["checkpoint"]))
		f.Close()
		a, err := Read(fixture, cfg)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.Repeat("0a", 32)
		for _, dtype := range []safetensors.DType{safetensors.F32, safetensors.F16} {
			dir := t.TempDir()
			if err := Write(&Adapter{Dir: dir, Base: base, Config: a.Config, Data: []string{"x", "y"}, Modules: a.Modules}, cfg, dtype, writeFileAt); err != nil {
				t.Fatal(err)
			}
			b, err := Read(dir, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if b.Base != base || !slices.Equal(b.Data, []string{"x", "y"}) || !slices.Equal(a.Config.Modules, b.Config.Modules) {
				t.Errorf("%s: base %q, modules %v", name, b.Base, b.Config.Modules)
			}
			for m, w := range a.Modules {
				got := b.Modules[m]
				if b.Config.RankOf(m) != a.Config.RankOf(m) || b.Config.ScaleOf(m) != a.Config.ScaleOf(m) || len(got.A) != len(w.A) || len(got.B) != len(w.B) {
					t.Fatalf("%s: %s has another rank, scale or shape", name, m)
				}
				for _, pair := range [][2][]float32{{w.A, got.A}, {w.B, got.B}} {
					for i, x := range pair[0] {
						y := pair[1][i]
						if d := math.Abs(float64(x - y)); dtype == safetensors.F32 && d != 0 || d > math.Abs(float64(x))/1024+1e-7 {
							t.Fatalf("%s: %s: %v became %v as %s", name, m, x, y, dtype)
						}
					}
				}
			}
		}
		for m, w := range a.Modules {
			w.A[0] = 70000
			err := Write(&Adapter{Dir: t.TempDir(), Base: base, Config: a.Config, Modules: a.Modules}, cfg, safetensors.F16, writeFileAt)
			if err == nil || !strings.Contains(err.Error(), m) || !strings.Contains(err.Error(), "is outside the range of F16") {
				t.Errorf("a value beyond F16 in %s: %v", m, err)
			}
			break
		}
	}
}

// TestAdapterRefusals changes one thing of a sound adapter at a time.
func TestAdapterRefusals(t *testing.T) {
	cfg := loadConfig(t, adapterModel)
	for name, c := range map[string]struct {
		key   string
		value any
		part  string
	}{
		"dora":            {"use_dora", true, "use_dora is true"},
		"saved modules":   {"modules_to_save", []string{"lm_head"}, "modules_to_save"},
		"bias":            {"bias", "all", `bias is "all"`},
		"lora bias":       {"lora_bias", true, "lora_bias"},
		"pissa":           {"init_lora_weights", "pissa", "changes the base"},
		"transposed":      {"fan_in_fan_out", true, "fan_in_fan_out"},
		"another kind":    {"peft_type", "IA3", "only LORA"},
		"another task":    {"task_type", "SEQ_CLS", "CAUSAL_LM"},
		"a new option":    {"invented_in_2031", 3, "invented_in_2031 is 3"},
		"head":            {"target_modules", []string{"q_proj", "lm_head"}, "lm_head"},
		"embedding":       {"target_modules", []string{"embed_tokens"}, "embed_tokens"},
		"nothing":         {"target_modules", []string{"c_attn"}, "matches no projection"},
		"no targets":      {"target_modules", nil, "names no module"},
		"bad expression":  {"target_modules", "(?=x)q_proj", "target_modules"},
		"rank":            {"r", 0, "r is 0"},
		"rank text":       {"r", "8", "r"},
		"rank pattern":    {"rank_pattern", map[string]any{"down_proj": 2.5}, "rank_pattern"},
		"alpha":           {"lora_alpha", 1e9, "lora_alpha"},
		"shape":           {"rank_pattern", map[string]any{"down_proj": 3}, "shape"},
		"missing module":  {"exclude_modules", []string{"down_proj"}, "is not of a module"},
		"another layer":   {"layers_to_transform", []int{1}, "is not of a module"},
		"layers by name":  {"layers_pattern", "blocks", "layers_pattern"},
		"layers not list": {"layers_to_transform", "all", "layers_to_transform"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyAdapter(t, func(config map[string]any) { config[c.key] = c.value }, nil)
			_, err := Read(dir, cfg)
			if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), c.part) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v", err)
			}
		})
	}
	const q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
	for name, c := range map[string]struct {
		change func(tensors map[string][]float32, infos map[string]safetensors.Info)
		part   string
	}{
		"missing": {func(x map[string][]float32, i map[string]safetensors.Info) { delete(i, q) }, q + `" is missing`},
		"unknown": {func(x map[string][]float32, i map[string]safetensors.Info) {
			i["x"], x["x"] = safetensors.Info{Name: "x", DType: safetensors.F32, Shape: []int{1}}, []float32{1}
		}, `"x" is not of a module`},
		"NaN": {func(x map[string][]float32, i map[string]safetensors.Info) { x[q][5] = float32(math.NaN()) }, q + `" holds NaN at index 5`},
		"type": {func(x map[string][]float32, i map[string]safetensors.Info) {
			i[q] = safetensors.Info{Name: q, DType: safetensors.I32, Shape: i[q].Shape}
		}, "is I32"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyAdapter(t, nil, c.change)
			_, err := Read(dir, cfg)
			if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), c.part) {
				t.Errorf("got %v", err)
			}
		})
	}
	for _, dir := range []string{"missing", adapterFixture + "/adapter_config.json", t.TempDir()} {
		if _, err := Read(dir, cfg); fault.KindOf(err) != fault.Input {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// copyAdapter copies the fixture with changes and returns its directory.
func copyAdapter(t testing.TB, config func(map[string]any), weights func(map[string][]float32, map[string]safetensors.Info)) string {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(filepath.Join(adapterFixture, ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	if config != nil {
		config(object)
	}
	if data, err = json.Marshal(object); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(filepath.Join(adapterFixture, WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	values, infos := map[string][]float32{}, map[string]safetensors.Info{}
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		v := make([]float32, x.NumElements())
		if err := x.Float32(v, 0); err != nil {
			t.Fatal(err)
		}
		values[name], infos[name] = v, safetensors.Info{Name: name, DType: x.DType, Shape: x.Shape}
	}
	if weights != nil {
		weights(values, infos)
	}
	var list []safetensors.Info
	for _, i := range infos {
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b safetensors.Info) int { return strings.Compare(a.Name, b.Name) })
	w, err := safetensors.Create(filepath.Join(dir, WeightsFile), list, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		b, err := encodeFloats(values[i.Name], safetensors.F32)
		if err := errors.Join(err, w.Append(b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), writeFileAt(filepath.Join(dir, ConfigFile), data)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestOpenAdapterUnbound checks that an adapter is not taken on trust.
func TestOpenAdapterUnbound(t *testing.T) {
	cfg := loadConfig(t, adapterModel)
	if _, err := Open(adapterFixture, adapterModel, cfg, false); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "does not name the artifact") {
		t.Errorf("without a base: %v", err)
	}
	if _, err := Open(adapterFixture, adapterModel, cfg, true); err != nil {
		t.Error(err)
	}
}

// FuzzAdapterConfig checks that no configuration does worse than an error, and that what
// is accepted can be written and read again.
func FuzzAdapterConfig(f *testing.F) {
	paths, _ := filepath.Glob("../recovery/testdata/*/" + ConfigFile)
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"peft_type":"LORA","r":3,"target_modules":"all-linear","alpha_pattern":{"^x":1}}`))
	cfg := loadConfig(f, adapterModel)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("f", data, cfg)
		if err != nil {
			if fault.KindOf(err) != fault.Input || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := ParseConfig("f", c.Encode(cfg), cfg)
		if err != nil {
			t.Fatalf("%v of %s", err, c.Encode(cfg))
		}
		for _, m := range c.Modules {
			if again.RankOf(m) != c.RankOf(m) || again.ScaleOf(m) != c.ScaleOf(m) {
				t.Fatalf("%s: rank %d and scale %v became %d and %v", m, c.RankOf(m), c.ScaleOf(m), again.RankOf(m), again.ScaleOf(m))
			}
		}
		if !slices.Equal(again.Modules, c.Modules) {
			t.Fatalf("%v became %v", c.Modules, again.Modules)
		}
	})
}

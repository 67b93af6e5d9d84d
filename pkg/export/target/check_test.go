package target

import (
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// config is a model whose projections have 32, 64 and 96 rows.
func config() *model.Config {
	return &model.Config{
		ModelType: "qwen3", Layers: 2, HiddenSize: 64, IntermediateSize: 96, Heads: 4, KVHeads: 2, HeadDim: 16,
		VocabSize: 104, MaxPositions: 512, Rope: model.Rope{Type: "default", MaxPositions: 512},
	}
}

// palettes gives all projections palettes of these bits, and the modules of other their own form.
func palettes(bits int, other map[string]int) Forms {
	return func(spec model.TensorSpec) (artifact.Form, int) {
		if b, ok := other[spec.Module()]; ok {
			if b == artifact.KeepBits {
				return artifact.Plain, 0
			}
			return artifact.Palette, b
		}
		if spec.Role == model.Projection {
			return artifact.Palette, bits
		}
		return artifact.RowInt8, 8
	}
}

func TestViolations(t *testing.T) {
	gemma := config()
	gemma.ModelType = "gemma"
	down := "model.layers.1.mlp.down_proj"
	for name, c := range map[string]struct {
		cfg     *model.Config
		group   int
		forms   Forms
		modules string // that break a rule
		parts   []string
	}{
		"4 bits":                    {config(), 16, palettes(4, nil), "", nil},
		"8 bits and 32 rows":        {config(), 32, palettes(8, nil), "", nil},
		"one module of 5 bits":      {config(), 16, palettes(4, map[string]int{down: 5}), down, []string{"5-bit", "1, 2, 3, 4, 6 and 8 bits", "--override '^" + down + "$=4'"}},
		"one module of 7 bits":      {config(), 16, palettes(2, map[string]int{down: 7}), down, []string{"7-bit"}},
		"one module of 16 bits":     {config(), 16, palettes(3, map[string]int{down: 16}), "", nil},
		"head of odd rows":          {config(), 16, palettes(4, map[string]int{"lm_head": 4}), "lm_head", []string{"104 rows, not a multiple of 16", "such as 8"}},
		"head in one table":         {config(), 104, palettes(4, map[string]int{"lm_head": 4}), "", nil},
		"head in a longer group":    {config(), 128, palettes(4, map[string]int{"lm_head": 4}), "", nil},
		"groups that do not divide": {config(), 48, palettes(4, nil), "q o down q o down", []string{"not a multiple of 48", "such as 32"}},
		"family":                    {gemma, 16, palettes(4, nil), "family", []string{"gemma", "llama, mistral, qwen2, qwen3"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range Names() {
				target, err := Named(n)
				if err != nil {
					t.Fatal(err)
				}
				var modules, text []string
				for _, v := range target.Violations(c.cfg, c.group, c.forms) {
					text = append(text, v.Problem, v.Hint)
					short := v.Module
					switch {
					case v.Module == "":
						short = "family"
					case !strings.Contains(c.modules, v.Module):
						_, short, _ = strings.Cut(strings.TrimSuffix(v.Module[len("model.layers.0."):], "_proj"), ".")
					}
					modules = append(modules, short)
				}
				if got := strings.Join(modules, " "); got != c.modules {
					t.Errorf("%s: %q break a rule, want %q", n, got, c.modules)
				}
				for _, part := range append(slices.Clone(c.parts), "") {
					if !strings.Contains(strings.Join(text, "\n"), part) {
						t.Errorf("%s: %q does not say %q", n, text, part)
					}
				}
				err = target.Check("FILE", c.cfg, c.group, c.forms)
				if (err == nil) != (c.modules == "") || err != nil && (fault.KindOf(err) != fault.Infeasible || !strings.HasPrefix(err.Error(), "FILE: target "+n+": ")) {
					t.Errorf("%s: %v", n, err)
				}
			}
		})
	}
}

// A program of fixed shape needs multiples of 8.
func TestFixedShape(t *testing.T) {
	heads, words := config(), config()
	heads.HeadDim, words.VocabSize = 6, 101
	for problem, cfg := range map[string]*model.Config{"the 12 channels of a key": heads, "the 101 tokens of the vocabulary": words} {
		for _, name := range Names() {
			target, err := Named(name)
			if err != nil {
				t.Fatal(err)
			}
			err = target.Check("", cfg, 1, palettes(4, nil))
			if bad := name == "coreai-ios"; (err != nil) != bad || bad && !strings.Contains(err.Error(), problem+" are not a multiple of 8") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The first violation is named and the others are counted.
func TestCheckCountsViolations(t *testing.T) {
	target, err := Named("coreai-ios")
	if err != nil {
		t.Fatal(err)
	}
	err = target.Check("", config(), 16, palettes(5, nil))
	if want := "target coreai-ios: model.layers.0.self_attn.q_proj has 5-bit indices; Core AI has palettes of 1, 2, 3, 4, 6 and 8 bits (and 13 more violations)"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// The widths are those that coreai-opt and coremltools document for n_bits.
func TestCheckWidths(t *testing.T) {
	for _, name := range Names() {
		target, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		for b := 1; b <= 9; b++ {
			err := target.CheckWidths([]int{4, b})
			if good := slices.Contains([]int{1, 2, 3, 4, 6, 8}, b); (err == nil) != good || !good && fault.KindOf(err) != fault.Infeasible {
				t.Errorf("%s, %d bits: %v", name, b, err)
			}
		}
		if got := target.Allowed([]int{2, 5, 4, 7}); !slices.Equal(got, []int{2, 4}) {
			t.Errorf("%s allows %v of 2, 5, 4 and 7 bits", name, got)
		}
	}
}

func TestCheckContext(t *testing.T) {
	target, err := Named("coreml-ios18")
	if err != nil {
		t.Fatal(err)
	}
	long := config()
	long.Rope = model.Rope{Type: "longrope", OriginalPositions: 128, MaxPositions: 512}
	static, err := Named("coreai-ios")
	if err != nil {
		t.Fatal(err)
	}
	wide := config()
	wide.MaxPositions = 1 << 20
	for _, c := range []struct {
		target  *Target
		cfg     *model.Config
		context int
		kind    fault.Kind
	}{
		{target, config(), 512, fault.Unexpected}, {target, config(), 513, fault.Usage}, {target, config(), 1, fault.Unexpected},
		{target, long, 128, fault.Unexpected}, {target, long, 129, fault.Infeasible}, {target, long, 513, fault.Usage},
		{static, config(), 512, fault.Unexpected}, {static, config(), 63, fault.Usage}, {static, config(), 56, fault.Unexpected}, {static, config(), 100, fault.Usage}, {static, config(), 0, fault.Usage},
		{static, long, 136, fault.Infeasible}, {static, wide, 1 << 16, fault.Unexpected}, {static, wide, 1<<16 + 8, fault.Usage}, {target, wide, 1 << 17, fault.Unexpected},
	} {
		err := c.target.CheckContext("", c.cfg, c.context)
		if fault.KindOf(err) != c.kind || (err == nil) != (c.kind == fault.Unexpected) {
			t.Errorf("%s, %s, context %d: %v", c.target.Name, c.cfg.Rope.Type, c.context, err)
		}
	}
}

// A target has the devices of its systems; its families are families of the engine.
func TestTargets(t *testing.T) {
	for name, systems := range map[string][]System{
		"coreai-ios": {IOS}, "coreai-macos": {MacOS}, "coreml-ios18": {IOS, MacOS}, "coreml-ios26": {IOS, MacOS},
	} {
		target, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []System{IOS, MacOS, "linux", ""} {
			if target.RunsOn(s) != slices.Contains(systems, s) {
				t.Errorf("%s on %q: %v", name, s, target.RunsOn(s))
			}
		}
		for _, family := range target.families {
			if !slices.Contains(model.Families(), family) {
				t.Errorf("%s exports %s, which the engine does not have", name, family)
			}
		}
	}
	if _, err := Named("coreai"); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "coreai-ios, coreai-macos, coreml-ios18") {
		t.Errorf("an unknown target: %v", err)
	}
	if got := OfExport("coreml"); !slices.Equal(got, []string{"coreml-ios18", "coreml-ios26"}) {
		t.Errorf("the targets of Core ML are %v", got)
	}
}

package sensitivity

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

func TestParseOverride(t *testing.T) {
	for s, want := range map[string]Override{
		"q_proj=8":            {Pattern: "q_proj", Bits: 8},
		`layers\.0\..*=2`:     {Pattern: `layers\.0\..*`, Bits: 2},
		"a=b=16":              {Pattern: "a=b", Bits: 16},
		"(gate|up)_proj$ = 3": {Pattern: "(gate|up)_proj$ ", Bits: 3},
		"down_proj=q6_k":      {Pattern: "down_proj", Form: "q6_k"},
		"down_proj=IQ4_NL":    {Pattern: "down_proj", Form: "iq4_nl"},
	} {
		if got, err := ParseOverride(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "=4", "q_proj", "q_proj=", "q_proj=x", "q_proj=0", "q_proj=9", "q_proj=-4", "(=4", "q=15", "q=f16", "q=q9_k"} {
		_, err := ParseOverride(s)
		wantFault(t, err, fault.Usage, "override", fmt.Sprintf("%q", s)[:2])
	}
}

func TestWidths(t *testing.T) {
	untied, tied := tinyConfig(t, false), tinyConfig(t, true)

	w, err := Widths(untied, 4, []Override{{Pattern: "q_proj|k_proj", Bits: 2}, {Pattern: `layers\.1\.self_attn\.q_proj$`, Bits: 8}, {Pattern: "v_proj", Bits: 16}, {Pattern: "lm_head", Bits: 4}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Width{
		"model.layers.0.self_attn.q_proj": {artifact.Palette, 2},
		"model.layers.1.self_attn.q_proj": {artifact.Palette, 8},
		"model.layers.1.self_attn.k_proj": {artifact.Palette, 2},
		"model.layers.1.self_attn.v_proj": {artifact.Plain, 0},
		"model.layers.1.self_attn.o_proj": {artifact.Palette, 4},
		"model.embed_tokens":              {artifact.RowInt8, 0},
		"lm_head":                         {artifact.Palette, 4},
	} {
		if w[name] != want {
			t.Errorf("%s: %v, want %v", name, w[name], want)
		}
	}
	for _, bits := range []int{1, 2, 8} {
		for _, cfg := range []*model.Config{tied, untied} {
			w, err := Widths(cfg, 3, []Override{{Pattern: "embed_tokens", Bits: bits}})
			if err != nil || w["model.embed_tokens"] != (Width{artifact.Palette, bits}) || w["model.layers.0.mlp.up_proj"] != (Width{artifact.Palette, 3}) {
				t.Errorf("embedding of %d bits: %v, %v", bits, w, err)
			}
		}
	}
	if w, err := Widths(untied, 3, []Override{{Pattern: ".*", Bits: 16}}); err != nil || w["model.embed_tokens"] != (Width{Form: artifact.Plain}) || w["lm_head"] != (Width{Form: artifact.Plain}) {
		t.Errorf("all at 16 bits: %v, %v", w, err)
	}
	if w, err := Widths(untied, 3, nil); err != nil || w["lm_head"] != (Width{artifact.RowInt8, 0}) {
		t.Errorf("head without an override: %v, %v", w["lm_head"], err)
	}
	for _, c := range []struct {
		cfg   *model.Config
		o     Override
		parts []string
	}{
		{untied, Override{Pattern: "qproj", Bits: 4}, []string{"matches no module", "nearest names are", "model.layers.0.self_attn.q_proj"}},
		{untied, Override{Pattern: `layers\.7\.mlp\.up_proj`, Bits: 4}, []string{"model.layers.0.mlp.up_proj, model.layers.1.mlp.up_proj"}},
		{tied, Override{Pattern: "lm_head", Bits: 4}, []string{"shares the embedding"}},
		{untied, Override{Pattern: "(", Bits: 4}, []string{"missing closing"}},
		{untied, Override{Pattern: "q_proj", Bits: 12}, []string{"1 to 8"}},
	} {
		_, err := Widths(c.cfg, 4, []Override{c.o})
		wantFault(t, err, fault.Usage, c.parts...)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj", "lm_head"}
	if got := nearest("lmhead$", names, 1); !slices.Equal(got, []string{"lm_head"}) {
		t.Errorf("nearest to lmhead: %v", got)
	}
	// By hand: "kitten" to a part of "the sitting": "sitt" + "n": 2 changes.
	if d := partDistance("kitten", "the sitting"); d != 2 {
		t.Errorf("partDistance = %d, want 2", d)
	}
	if d := partDistance("abc", "xxabcxx"); d != 0 {
		t.Errorf("partDistance = %d, want 0", d)
	}
}

// Blocks have one type for projections, Q6_K for embedding and head, and what the columns allow.
func TestFormWidths(t *testing.T) {
	cfg := tinyConfig(t, false) // matrices of 64 and fewer columns
	w, notes, err := FormWidths(cfg, "q4_0", []Override{
		{Pattern: `layers\.0\..*down_proj`, Form: "q8_0"}, {Pattern: "v_proj", Bits: 16}, {Pattern: "embed", Form: "q5_0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range cfg.Tensors() {
		if len(spec.Shape) != 2 {
			continue
		}
		name, cols := spec.Module(), spec.Shape[1]
		want := Width{"q4_0", 4}
		switch {
		case strings.HasSuffix(name, "v_proj"), cols%32 != 0:
			want = Width{Form: artifact.Plain}
		case name == "model.layers.0.mlp.down_proj":
			want = Width{"q8_0", 8}
		case spec.Role == model.Embedding:
			want = Width{"q5_0", 5}
		case spec.Role == model.Head: // Q6_K needs 256 columns
			want = Width{"q8_0", 8}
		}
		if w[name] != want {
			t.Errorf("%s with %d columns: %v, want %v", name, cols, w[name], want)
		}
	}
	if want := "lm_head: q8_0 instead of q6_k: 32 columns are not a multiple of 256"; !slices.Contains(notes, want) {
		t.Errorf("notes %q lack %q", notes, want)
	}
	odd := *cfg
	odd.IntermediateSize = 100
	if _, notes, _ := FormWidths(&odd, "q4_0", nil); !strings.Contains(strings.Join(notes, "\n"), "down_proj and 1 more module: unquantized instead of q4_0: 100 columns are not a multiple of 32") {
		t.Errorf("notes %q do not say that matrices are kept", notes)
	}
	wide := *cfg
	wide.HiddenSize = 256
	for kind, want := range map[artifact.Form]artifact.Form{"q4_k": "q6_k", "q5_1": "q6_k", "q8_0": "q8_0"} {
		w, _, err := FormWidths(&wide, kind, nil)
		if err != nil || w["lm_head"].Form != want || w["model.embed_tokens"].Form != want {
			t.Errorf("%v: head %v, embedding %v, %v, want %s", kind, w["lm_head"], w["model.embed_tokens"], err, want)
		}
	}
	for _, o := range []Override{{Pattern: "q_proj", Bits: 4}, {Pattern: "nothing", Form: "q8_0"}, {Pattern: "q_proj", Form: "palette"}} {
		if _, _, err := FormWidths(cfg, "q4_0", []Override{o}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%v: %v", o, err)
		}
	}
	tied := tinyConfig(t, true)
	_, _, err = FormWidths(tied, "q4_0", []Override{{Pattern: "lm_head", Form: "q4_0"}})
	wantFault(t, err, fault.Usage, "lm_head=q4_0", "shares the embedding's weights")
	if _, err := Widths(cfg, 4, []Override{{Pattern: "q_proj", Form: "q8_0"}}); fault.KindOf(err) != fault.Usage {
		t.Errorf("a type in a palette: %v", err)
	}
}

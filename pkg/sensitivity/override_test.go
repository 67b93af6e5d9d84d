package sensitivity

import (
	"fmt"
	"slices"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

func TestParseOverride(t *testing.T) {
	for s, want := range map[string]Override{
		"q_proj=8":            {"q_proj", 8},
		`layers\.0\..*=2`:     {`layers\.0\..*`, 2},
		"a=b=16":              {"a=b", 16},
		"(gate|up)_proj$ = 3": {"(gate|up)_proj$ ", 3},
	} {
		if got, err := ParseOverride(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "=4", "q_proj", "q_proj=", "q_proj=x", "q_proj=0", "q_proj=9", "q_proj=-4", "(=4", "q=15"} {
		_, err := ParseOverride(s)
		wantFault(t, err, fault.Usage, "override", fmt.Sprintf("%q", s)[:2])
	}
}

func TestWidths(t *testing.T) {
	untied, tied := tinyConfig(t, false), tinyConfig(t, true)

	w, err := Widths(untied, 4, []Override{{"q_proj|k_proj", 2}, {`layers\.1\.self_attn\.q_proj$`, 8}, {"v_proj", 16}, {"lm_head", 4}})
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
	if w, err := Widths(untied, 3, nil); err != nil || w["lm_head"] != (Width{artifact.RowInt8, 0}) {
		t.Errorf("head without an override: %v, %v", w["lm_head"], err)
	}
	for _, c := range []struct {
		cfg   *model.Config
		o     Override
		parts []string
	}{
		{untied, Override{"embed", 4}, []string{`"embed=4"`, "model.embed_tokens", "always stored as int8"}},
		{untied, Override{".*", 4}, []string{"model.embed_tokens"}},
		{untied, Override{"qproj", 4}, []string{"matches no module", "nearest names are", "model.layers.0.self_attn.q_proj"}},
		{untied, Override{`layers\.7\.mlp\.up_proj`, 4}, []string{"model.layers.0.mlp.up_proj, model.layers.1.mlp.up_proj"}},
		{tied, Override{"lm_head", 4}, []string{"shares the embedding"}},
		{untied, Override{"(", 4}, []string{"missing closing"}},
		{untied, Override{"q_proj", 12}, []string{"1 to 8"}},
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

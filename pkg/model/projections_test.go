package model

import (
	"slices"
	"testing"
)

// TestProjections compares the lists with the tensors of a model: the kinds are those of its
// projections in their order, and projections of one group have equally many inputs.
func TestProjections(t *testing.T) {
	cfg := &Config{VocabSize: 11, HiddenSize: 6, IntermediateSize: 10, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: 2}
	var kinds []string
	columns := map[string]int{}
	for _, s := range cfg.Tensors() {
		if s.Role == Projection {
			kinds = append(kinds, s.Kind)
			columns[s.Kind] = s.Shape[1]
		}
	}
	if !slices.Equal(Projections(), kinds) {
		t.Errorf("kinds %v, the model has %v", Projections(), kinds)
	}
	for _, k := range kinds {
		group := InputGroup(k)
		if !slices.Contains(group, k) {
			t.Errorf("the group of %s is %v", k, group)
		}
		for _, other := range group {
			if columns[other] != columns[k] || !slices.Equal(InputGroup(other), group) {
				t.Errorf("%s and %s have different inputs", k, other)
			}
		}
	}
	for kind, want := range map[string]string{"q_proj": "v_proj", "gate_proj": "up_proj"} {
		if !slices.Contains(InputGroup(kind), want) {
			t.Errorf("%s does not share its input with %s", kind, want)
		}
	}
	if slices.Contains(InputGroup("q_proj"), "gate_proj") || InputGroup("lm_head") != nil {
		t.Error("groups that do not exist")
	}
	fused := *cfg
	fused.Fused = true
	for _, s := range fused.Tensors() {
		if s.Role == Projection && !slices.Equal(InputGroup(s.Kind), []string{s.Kind}) {
			t.Errorf("%s has the input of %v", s.Kind, InputGroup(s.Kind))
		}
	}
	InputGroup("q_proj")[0] = "x"
	if Projections()[0] != "q_proj" {
		t.Error("a caller can change the list")
	}
}

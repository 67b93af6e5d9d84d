package model

import "slices"

// inputGroups lists the projections of a layer in canonical order, grouped by the
// activation that they read.
var inputGroups = [][]string{
	{"q_proj", "k_proj", "v_proj"}, // normalized hidden state, [tokens, hidden]
	{"o_proj"},                     // output of attention, [tokens, heads·head_dim]
	{"gate_proj", "up_proj"},       // normalized hidden state after attention, [tokens, hidden]
	{"down_proj"},                  // gated activation, [tokens, intermediate]
}

// Projections returns the kinds of the projections of a layer in canonical order, from
// "q_proj" to "down_proj". They are the values of [TensorSpec.Kind] of a tensor whose role
// is [Projection].
func Projections() []string { return slices.Concat(inputGroups...) }

// InputGroup returns the kinds of the projections that read the same activation as kind, in
// canonical order and kind included: q_proj, k_proj and v_proj; o_proj; gate_proj and
// up_proj; down_proj. It returns nil if kind is not a projection.
func InputGroup(kind string) []string {
	for _, group := range inputGroups {
		if slices.Contains(group, kind) {
			return slices.Clone(group)
		}
	}
	return nil
}

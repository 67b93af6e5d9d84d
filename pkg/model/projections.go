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

// fusedGroups are the projections that a family has in place of the others of their input; see
// [Config].Fused.
var fusedGroups = [][]string{{"qkv_proj"}, {"gate_up_proj"}}

// Projections returns the kinds of the projections of a layer in canonical order, from
// "q_proj" to "down_proj". They are the values of [TensorSpec.Kind] of a tensor whose role
// is [Projection], where q, k and v, and gate and up, are not fused.
func Projections() []string { return slices.Concat(inputGroups...) }

// InputGroup returns the kinds of the projections that read the same activation as kind, in
// canonical order and kind included: q_proj, k_proj and v_proj; o_proj; gate_proj and
// up_proj; down_proj. A fused one, qkv_proj or gate_up_proj, is alone. It returns nil if kind is not
// a projection.
func InputGroup(kind string) []string {
	for _, group := range slices.Concat(inputGroups, fusedGroups) {
		if slices.Contains(group, kind) {
			return slices.Clone(group)
		}
	}
	return nil
}

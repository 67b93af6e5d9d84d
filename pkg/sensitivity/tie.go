package sensitivity

import (
	"fmt"
	"slices"
	"strings"

	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Tie names projections of a layer that a runtime fuses and that therefore need equal bits.
type Tie string

const (
	TieQKV    Tie = "qkv"     // q_proj, k_proj and v_proj
	TieGateUp Tie = "gate_up" // gate_proj and up_proj
)

// tied lists the projections of each tie: those that read one input can be fused into one
// product.
var tied = map[Tie][]string{
	TieQKV:    model.InputGroup("q_proj"),
	TieGateUp: model.InputGroup("gate_proj"),
}

// ParseTies parses a list such as "qkv,gate_up". Errors are fault.Usage.
func ParseTies(s string) ([]Tie, error) {
	var out []Tie
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		t, err := parseTie(part)
		if err != nil {
			return nil, fault.Usagef("%v", err)
		}
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out, nil
}

func parseTie(s string) (Tie, error) {
	if _, ok := tied[Tie(s)]; !ok {
		return "", fmt.Errorf("tie %q is unknown; the ties are qkv and gate_up", s)
	}
	return Tie(s), nil
}

// tieName returns the name of the group of modules whose bits equal those of a projection.
func tieName(ties []Tie, spec model.TensorSpec) string {
	for _, t := range ties {
		if slices.Contains(tied[t], spec.Kind) {
			return fmt.Sprintf("layer %d %s", spec.Layer, t)
		}
	}
	return spec.Module()
}

// untied returns the first two projections of one tie that have different widths; empty if there are
// none.
func untied(cfg *model.Config, ties []Tie, widths map[string]Width) (a, b string) {
	last := map[string]string{}
	for _, spec := range cfg.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		name, group := spec.Module(), tieName(ties, spec)
		if other, ok := last[group]; ok && widths[other] != widths[name] {
			return other, name
		}
		last[group] = name
	}
	return "", ""
}

package sensitivity

import (
	"fmt"
	"sort"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/model"
)

// BlockWidths returns the stored form of every matrix of the model in blocks of ggml, by module
// name: type t for projections, Q6_K for the embedding and an untied head, as llama.cpp stores
// them, and the form of the last matching override. A matrix whose columns the blocks of its type
// do not divide gets the next type with blocks of 32 weights, or stays at 16 bits; notes say which.
// Errors are fault.Usage.
func BlockWidths(cfg *model.Config, t ggml.Type, overrides []Override) (widths map[string]Width, notes []string, err error) {
	widths = map[string]Width{}
	cols := map[string]int{}
	var modules []string // in canonical order
	for _, spec := range cfg.Tensors() {
		name := spec.Module()
		switch spec.Role {
		case model.Projection:
			widths[name] = blockWidth(t)
		case model.Head, model.Embedding:
			widths[name] = blockWidth(ggml.Q6_K)
		default:
			continue
		}
		cols[name] = spec.Shape[1]
		modules = append(modules, name)
	}
	for _, o := range overrides {
		if err := overrideBlocks(widths, modules, o); err != nil {
			return nil, nil, err
		}
	}
	changed := map[string][]string{}
	for _, name := range modules {
		w := widths[name]
		kind, block := w.Form.Block()
		if !block || cols[name]%kind.BlockWeights() == 0 {
			continue
		}
		next := nextWidth(kind, cols[name])
		widths[name] = next
		key := fmt.Sprintf("%s instead of %s: its %d columns are not a multiple of %d", next, w, cols[name], kind.BlockWeights())
		changed[key] = append(changed[key], name)
	}
	for key, names := range changed {
		notes = append(notes, summarize(names)+": "+key)
	}
	sort.Strings(notes)
	return widths, notes, nil
}

func blockWidth(t ggml.Type) Width { return Width{artifact.BlockForm(t), artifact.CodeBits(t)} }

// overrideBlocks applies one override.
func overrideBlocks(widths map[string]Width, modules []string, o Override) error {
	re, err := o.compile()
	if err != nil {
		return err
	}
	kind, block := o.Form.Block()
	if !block && o.Bits != artifact.KeepBits {
		return fault.Usagef("override %q: blocks have types such as q6_k, or 16 for 16 bits", o)
	}
	hit := false
	for _, name := range modules {
		if !re.MatchString(name) {
			continue
		}
		hit = true
		if block {
			widths[name] = blockWidth(kind)
		} else {
			widths[name] = Width{Form: artifact.Plain}
		}
	}
	if hit {
		return nil
	}
	return fault.Usagef("override %q matches no module; the nearest names are %s", o, strings.Join(nearest(o.Pattern, modules, 3), ", "))
}

// nextWidth returns what stores rows of cols weights that the blocks of t do not divide: the type
// of 32 weights in a block with at least the bits of t, or 16 bits.
func nextWidth(t ggml.Type, cols int) Width {
	if cols%32 != 0 {
		return Width{Form: artifact.Plain}
	}
	switch t {
	case ggml.Q6_K:
		return blockWidth(ggml.Q8_0)
	case ggml.Q5_K:
		return blockWidth(ggml.Q5_0)
	}
	return blockWidth(ggml.IQ4_NL)
}

// summarize names modules in a few words.
func summarize(names []string) string {
	if len(names) <= 2 {
		return strings.Join(names, " and ")
	}
	return fmt.Sprintf("%s, %s and %d more modules", names[0], names[1], len(names)-2)
}

package sensitivity

import (
	"fmt"
	"slices"
	"sort"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/model"
)

// BlockWidths returns the stored form of every matrix of the model in blocks of ggml, by module
// name: type t for projections, Q6_K for the embedding and an untied head, or Q8_0 if that is t,
// and the form of the last matching override. llama.cpp stores a head and an embedding that is also
// the head in the same way. A matrix whose columns the blocks of its type
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
			widths[name] = blockWidth(headType(t))
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
		stored := next.String()
		if next.Form == artifact.Plain {
			stored = "unquantized"
		}
		key := fmt.Sprintf("%s instead of %s: %d columns are not a multiple of %d", stored, w, cols[name], kind.BlockWeights())
		changed[key] = append(changed[key], name)
	}
	for key, names := range changed {
		notes = append(notes, summarize(names)+": "+key)
	}
	sort.Strings(notes)
	return widths, notes, nil
}

// headType returns the type of embedding and head beside projections of type t: never fewer bits
// than those, because the model depends on them the most.
func headType(t ggml.Type) ggml.Type {
	if t == ggml.Q8_0 {
		return t
	}
	return ggml.Q6_K
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
	return noMatch(o, re, modules, slices.Contains(modules, "lm_head"))
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

// summarize names modules in a few words: the first, and how many more.
func summarize(names []string) string {
	switch n := len(names) - 1; n {
	case 0:
		return names[0]
	case 1:
		return names[0] + " and 1 more module"
	default:
		return fmt.Sprintf("%s and %d more modules", names[0], n)
	}
}

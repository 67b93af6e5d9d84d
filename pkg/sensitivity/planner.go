package sensitivity

import (
	"math"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// DefaultBPW is the target of a plan that sets none, in bits per weight of the projections.
const DefaultBPW = 3.5

// PlanOptions say which plan to make. The zero value asks for DefaultBPW from all widths that
// were scored.
type PlanOptions struct {
	Target    Target     // the bound to keep; the zero value is DefaultBPW
	Bits      []int      // widths to choose from; empty: all that were scored
	Ties      []Tie      // modules that must have equal bits
	Overrides []Override // modules with fixed bits; later ones win
	Seed      int64      // of the random baseline

	// ExportTarget is the name of a target of package target whose rules the plan must keep; empty
	// for none. Where Bits is empty, scored widths that it does not have are left out.
	ExportTarget string `json:"-"`
}

// planner holds what an allocation is computed from.
type planner struct {
	shape   *Shape
	storage Storage
	opts    PlanOptions
	scored  []int            // widths that were scored; empty before any are
	target  *target.Target   // nil for none
	pinned  map[string]Width // by overrides, heads included
	base    map[string]Width // of every matrix, projections at the least width
	groups  []tieGroup
}

// tieGroup is a module, or several that must have equal bits.
type tieGroup struct {
	name    string
	layer   int
	modules []int   // indices into the projections in canonical order
	sizes   []int64 // data bytes by width
	pinned  bool
}

// newPlanner checks the options against a model. Errors are fault.Usage, and fault.Infeasible for
// what the export target does not have.
func newPlanner(shape *Shape, st Storage, opts PlanOptions) (*planner, error) {
	if opts.Target == (Target{}) {
		opts.Target.BPW = DefaultBPW
	}
	if err := opts.Target.check(); err != nil {
		return nil, fault.Usagef("target: %v", err)
	}
	exports, err := exportTarget(opts.ExportTarget)
	if err != nil {
		return nil, err
	}
	if len(opts.Bits) == 0 {
		opts.Bits = DefaultBits()
	}
	opts.Bits = slices.Clone(opts.Bits)
	slices.Sort(opts.Bits)
	if err := checkBits(opts.Bits); err != nil {
		return nil, fault.Usagef("%v", err)
	}
	p := &planner{shape: shape, storage: st, opts: opts, target: exports, pinned: map[string]Width{}}
	if p.base, err = Widths(shape.Config, opts.Bits[0], nil); err != nil {
		return nil, err
	}
	changed, err := Widths(shape.Config, 0, opts.Overrides)
	if err != nil {
		return nil, err
	}
	for name, w := range changed {
		if w.Form == artifact.Palette && w.Bits == 0 || w == p.base[name] && w.Form == artifact.RowInt8 {
			continue // not matched by an override
		}
		p.pinned[name], p.base[name] = w, w
	}
	if exports != nil {
		if err := exports.CheckWidths(opts.Bits); err != nil {
			return nil, err
		}
		if err := CheckTarget(exports, "", shape, st, p.base); err != nil {
			return nil, err
		}
	}
	return p, p.group()
}

// group forms the tie groups.
func (p *planner) group() error {
	at := map[string]int{}
	names := projections(p.shape.Config)
	i := 0
	for _, spec := range p.shape.Config.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		pin, pinned := p.pinned[spec.Module()]
		name := tieName(p.opts.Ties, spec)
		k, ok := at[name]
		if !ok {
			k = len(p.groups)
			at[name] = k
			p.groups = append(p.groups, tieGroup{name: name, layer: spec.Layer, pinned: pinned, sizes: make([]int64, len(p.options(pinned)))})
		}
		g := &p.groups[k]
		if g.pinned != pinned || pinned && len(g.modules) > 0 && pin != p.pinned[names[g.modules[0]]] {
			return fault.Usagef("the overrides give different bits to the tied modules of %s", name)
		}
		g.modules = append(g.modules, i)
		for o, w := range p.options(pinned) {
			if pinned {
				w = pin
			}
			n, err := p.shape.moduleBytes(spec, p.storage, w)
			if err != nil {
				return err
			}
			g.sizes[o] += n
		}
		i++
	}
	return nil
}

// options returns the widths of a group; that of a pinned one is in p.pinned.
func (p *planner) options(pinned bool) []Width {
	if pinned {
		return make([]Width, 1)
	}
	out := make([]Width, len(p.opts.Bits))
	for i, b := range p.opts.Bits {
		out[i] = Width{artifact.Palette, b}
	}
	return out
}

// widths returns the width of every matrix if the groups get the selected options.
func (p *planner) widths(picks []int) map[string]Width {
	out := make(map[string]Width, len(p.base))
	for name, w := range p.base {
		out[name] = w
	}
	names := projections(p.shape.Config)
	for i, g := range p.groups {
		for _, m := range g.modules {
			if !g.pinned {
				out[names[m]] = Width{artifact.Palette, p.opts.Bits[picks[i]]}
			}
		}
	}
	return out
}

// uniform returns the picks that give every group the same option, counted from the
// narrowest. A pinned group has one option.
func (p *planner) uniform(option int) []int {
	picks := make([]int, len(p.groups))
	for i, g := range p.groups {
		picks[i] = min(option, len(g.sizes)-1)
	}
	return picks
}

// size returns the data bytes of the groups.
func (p *planner) size(picks []int) int64 {
	n := int64(0)
	for i, k := range picks {
		n += p.groups[i].sizes[k]
	}
	return n
}

func (p *planner) measure(picks []int) (Size, error) {
	return p.shape.Measure(p.storage, p.widths(picks))
}

// budget returns the data bytes that the groups may have. With a bound on the file it is an
// upper bound: it assumes the shortest header, that of the smallest options. A target out of
// reach is an error of kind fault.Infeasible.
func (p *planner) budget() (int64, error) {
	least, err := p.measure(p.uniform(0))
	if err != nil {
		return 0, err
	}
	groups := p.size(p.uniform(0))
	limit := int64(0)
	if t := p.opts.Target; t.BPW > 0 {
		limit = bytesFor(t.BPW, least.Projections) - (least.ProjectionBits/8 - groups)
	} else {
		limit = t.MaxBytes - (least.FileBytes - groups)
	}
	if limit < groups {
		return 0, p.unreachable()
	}
	return limit, nil
}

// bytesFor returns the largest number of bytes at which so many weights have at most bpw
// bits each.
func bytesFor(bpw float64, weights int64) int64 {
	n := int64(math.Floor(bpw * float64(weights) / 8))
	for n > 0 && float64(8*n)/float64(weights) > bpw {
		n--
	}
	for float64(8*(n+1))/float64(weights) <= bpw {
		n++
	}
	return n
}

// keeps reports whether an artifact of this size keeps the bound on the file, if there is
// one. A bound on the bits per weight is exactly the budget.
func (p *planner) keeps(size Size) bool {
	return p.opts.Target.MaxBytes == 0 || size.FileBytes <= p.opts.Target.MaxBytes
}

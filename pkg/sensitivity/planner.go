package sensitivity

import (
	"math"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// DefaultBPW is the target of a plan that sets none, in bits per weight.
const DefaultBPW = 3.5

// PlanOptions say which plan to make. The zero value asks for DefaultBPW from all widths that
// were scored.
type PlanOptions struct {
	Target    Target          // the bound to keep; the zero value is DefaultBPW
	Bits      []int           // widths of palettes to choose from; empty: all that were scored
	Forms     []artifact.Form `json:",omitempty"` // forms of another grid to choose from instead; empty: all that were scored
	Ties      []Tie           // modules that must have equal bits
	Overrides []Override      // modules with fixed bits; later ones win
	Seed      int64           // of the random baseline

	// ExportTarget is the name of a target of package target whose rules the plan must keep; empty
	// for none. Where Bits is empty, scored widths that it does not have are left out.
	ExportTarget string `json:"-"`

	// Container is the file that Target.MaxBytes bounds; nil for model.safetensors.
	Container *Container `json:",omitempty"`
}

// planner holds what an allocation is computed from.
type planner struct {
	shape   *Shape
	storage Storage
	opts    PlanOptions
	list    []Width          // that projections choose from, by size; of a module see width
	names   []string         // of the modules that are chosen: projections in canonical order, then ends
	ends    map[string][]int // the widths that embedding and head choose from, if they take part; see widthOfEnd
	cols    map[string]int   // columns of every projection
	scored  []int            // widths of palettes that were scored; empty before any are
	target  *target.Target   // nil for none
	pinned  map[string]Width // by overrides, heads included
	base    map[string]Width // of every matrix, projections at the least width
	groups  []tieGroup
	asked   map[string]Width // of every matrix, before the columns are considered; with forms
}

// tieGroup is a module, or several that must have equal widths.
type tieGroup struct {
	name    string
	layer   int
	modules []int   // indices into planner.names
	sizes   []int64 // bytes by option: of the data, and of the names in the header of a file that is bounded
	pinned  bool
}

// newPlanner checks the options against a model. Errors are fault.Usage, and fault.Infeasible for
// what the export target does not have.
func newPlanner(shape *Shape, st Storage, opts PlanOptions) (*planner, error) {
	return newPlannerOf(shape, st, opts, nil)
}

// newPlannerOf is newPlanner where embedding and head have only the widths of these scores to choose
// from; nil for all.
func newPlannerOf(shape *Shape, st Storage, opts PlanOptions, scores *Scores) (*planner, error) {
	if opts.Target == (Target{Of: opts.Target.Of}) {
		opts.Target.BPW = DefaultBPW
	}
	if err := opts.Target.check(); err != nil {
		return nil, fault.Usagef("target: %v", err)
	}
	exports, err := exportTarget(opts.ExportTarget)
	if err != nil {
		return nil, err
	}
	if err := opts.Container.check(); err != nil {
		return nil, fault.Usagef("%v", err)
	}
	p := &planner{shape: shape, storage: st, target: exports, pinned: map[string]Width{}, base: map[string]Width{}, cols: map[string]int{}}
	for _, spec := range shape.Config.Tensors() {
		if spec.Role == model.Projection {
			p.cols[spec.Module()] = spec.Shape[1]
		}
	}
	if len(opts.Forms) > 0 {
		err = p.chooseForms(&opts)
	} else {
		err = p.chooseBits(&opts)
	}
	if err != nil {
		return nil, err
	}
	p.opts, p.list = opts, optionWidths(opts.Bits, opts.Forms)
	p.names = projections(shape.Config)
	if opts.Target.Of == OfModel {
		if err := p.chooseEnds(scores); err != nil {
			return nil, err
		}
	}
	return p, p.group()
}

// takesEnds reports whether embedding and head take part in the allocation.
func (p *planner) takesEnds() bool { return p.opts.Target.Of == OfModel }

// chooseEnds sets the widths that embedding and head choose from: those of [endBits] that the scores
// and the export target have.
func (p *planner) chooseEnds(scores *Scores) error {
	p.ends = map[string][]int{}
	for _, spec := range p.shape.Config.Tensors() {
		if !isEnd(spec) {
			continue
		}
		name := spec.Module()
		for _, b := range endBits(p.opts.Bits) {
			if scores != nil {
				if _, ok := scores.EndCost(name, widthOfEnd(b)); !ok {
					continue
				}
			}
			if p.target != nil && b != int8Bits && (len(p.target.Allowed([]int{b})) == 0 || !p.dividesRows(spec)) {
				continue
			}
			p.ends[name] = append(p.ends[name], b)
		}
		if len(p.ends[name]) == 0 {
			return fault.Usagef("%s was scored at none of the widths %v", name, endBits(p.opts.Bits))
		}
		p.names = append(p.names, name)
	}
	return nil
}

// dividesRows reports whether a palette of a matrix has no last group of fewer rows, which runtimes
// do not have.
func (p *planner) dividesRows(spec model.TensorSpec) bool {
	return spec.Shape[0] <= p.storage.GroupRows || spec.Shape[0]%p.storage.GroupRows == 0
}

// allEndBits returns the widths that embedding and head choose from; nil if they take no part.
func (p *planner) allEndBits() (out []int) {
	for _, bits := range p.ends {
		out = append(out, bits...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// options returns the number of options of a module.
func (p *planner) options(name string) int {
	if bits, ok := p.ends[name]; ok {
		return len(bits)
	}
	return len(p.list)
}

// chooseBits sets the widths of all matrices for palettes, projections at the fewest bits, and
// completes the options.
func (p *planner) chooseBits(opts *PlanOptions) error {
	if len(opts.Bits) == 0 {
		opts.Bits = DefaultBits()
	}
	opts.Bits = slices.Clone(opts.Bits)
	slices.Sort(opts.Bits)
	if err := checkBits(opts.Bits); err != nil {
		return fault.Usagef("%v", err)
	}
	var err error
	if p.base, err = Widths(p.shape.Config, opts.Bits[0], nil); err != nil {
		return err
	}
	changed, err := Widths(p.shape.Config, 0, opts.Overrides)
	if err != nil {
		return err
	}
	for name, w := range changed {
		if w.Form == artifact.Palette && w.Bits == 0 || w == p.base[name] && w.Form == artifact.RowInt8 {
			continue // not matched by an override
		}
		p.pinned[name], p.base[name] = w, w
	}
	if p.target == nil {
		return nil
	}
	if err := p.target.CheckWidths(opts.Bits); err != nil {
		return err
	}
	return CheckTarget(p.target, "", p.shape, p.storage, p.base)
}

// width returns how a module is stored under an option.
func (p *planner) width(name string, option int) Width {
	if bits, ok := p.ends[name]; ok {
		return widthOfEnd(bits[option])
	}
	return fitColumns(p.list[option], p.cols[name])
}

// group forms the tie groups.
func (p *planner) group() error {
	at := map[string]int{}
	names := p.names
	for i, spec := range p.specs() {
		pin, pinned := p.pinned[spec.Module()]
		name := tieName(p.opts.Ties, spec)
		k, ok := at[name]
		if !ok {
			k = len(p.groups)
			at[name] = k
			options := p.options(spec.Module())
			if pinned {
				options = 1
			}
			p.groups = append(p.groups, tieGroup{name: name, layer: spec.Layer, pinned: pinned, sizes: make([]int64, options)})
		}
		g := &p.groups[k]
		if g.pinned != pinned || pinned && len(g.modules) > 0 && pin != p.pinned[names[g.modules[0]]] {
			return fault.Usagef("the overrides give different bits to the tied modules of %s", name).
				WithHint("let an override match all modules of a tie; those that vLLM fuses are tied on the symmetric grid")
		}
		g.modules = append(g.modules, i)
		for o := range g.sizes {
			w := pin
			if !pinned {
				w = p.width(spec.Module(), o)
			}
			n, err := p.shape.moduleBytes(spec, p.storage, w)
			if err != nil {
				return err
			}
			switch {
			case p.bounded():
				n = p.opts.Container.aligned(n)
			case p.opts.Target.MaxBytes > 0:
				n += p.nameBytes(spec, w)
			}
			g.sizes[o] += n
		}
	}
	return nil
}

// specs returns the tensors of the modules that are chosen, in the order of p.names.
func (p *planner) specs() []model.TensorSpec {
	at := make(map[string]int, len(p.names))
	for i, name := range p.names {
		at[name] = i
	}
	out := make([]model.TensorSpec, len(p.names))
	for _, spec := range p.shape.Config.Tensors() {
		if i, ok := at[spec.Module()]; ok && len(spec.Shape) == 2 {
			out[i] = spec
		}
	}
	return out
}

// bounded reports whether the target bounds a container.
func (p *planner) bounded() bool { return p.opts.Container != nil && p.opts.Target.MaxBytes > 0 }

// widths returns the width of every matrix if the groups get the selected options.
func (p *planner) widths(picks []int) map[string]Width {
	out := make(map[string]Width, len(p.base))
	for name, w := range p.base {
		out[name] = w
	}
	names := p.names
	for i, g := range p.groups {
		for _, m := range g.modules {
			if !g.pinned {
				out[names[m]] = p.width(names[m], picks[i])
			}
		}
	}
	return out
}

// uniform returns the picks that give every group the same option, counted from the
// narrowest; embedding and head the same bits, or the fewest if they do not have them. A pinned group
// has one option.
func (p *planner) uniform(option int) []int {
	picks := make([]int, len(p.groups))
	for i, g := range p.groups {
		if bits, ok := p.ends[p.names[g.modules[0]]]; ok {
			picks[i] = min(max(slices.Index(bits, p.list[option].Bits), 0), len(g.sizes)-1)
			continue
		}
		picks[i] = min(option, len(g.sizes)-1)
	}
	return picks
}

// most returns the picks of the last options, and of the largest for embedding and head.
func (p *planner) most() []int {
	picks := p.uniform(len(p.list) - 1)
	for i, g := range p.groups {
		if _, ok := p.ends[p.names[g.modules[0]]]; ok {
			picks[i] = slices.Index(g.sizes, slices.Max(g.sizes))
		}
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

// measure returns the size of the artifact, or its FileBytes of the container.
func (p *planner) measure(picks []int) (Size, error) {
	widths := p.widths(picks)
	size, err := p.shape.Measure(p.storage, widths)
	if err == nil && p.bounded() {
		size.FileBytes, err = p.opts.Container.bytes(p.shape, p.storage, widths)
	}
	return size, err
}

// least returns the picks of the smallest options.
func (p *planner) least() []int {
	picks := make([]int, len(p.groups))
	for i, g := range p.groups {
		for o, size := range g.sizes {
			if size < g.sizes[picks[i]] {
				picks[i] = o
			}
		}
	}
	return picks
}

// nameBytes returns the length of the names of the tensors that store a matrix; of embedding and head,
// whose forms differ in the number of tensors, that of all their text in the header but for the data
// offsets.
func (p *planner) nameBytes(spec model.TensorSpec, w Width) (n int64) {
	for _, info := range p.shape.storedInfos(spec, p.storage, w, true) {
		if isEnd(spec) {
			n += headerText(info)
		} else {
			n += int64(len(info.Name))
		}
	}
	return n
}

// headerPadding is the most that the padding of a safetensors header has.
const headerPadding = 7

// budget returns the data bytes that the groups may have. With a bound on the file it is an
// upper bound: it assumes the shortest header, that of the smallest options. A target out of
// reach is an error of kind fault.Infeasible.
func (p *planner) budget() (int64, error) {
	least, err := p.measure(p.least())
	if err != nil {
		return 0, err
	}
	groups := p.size(p.least())
	limit := int64(0)
	if t := p.opts.Target; t.BPW > 0 && t.Of == OfModel {
		limit = bytesFor(t.BPW, least.Weights) - (least.Bytes - groups)
	} else if t.BPW > 0 {
		limit = bytesFor(t.BPW, least.Projections) - (least.ProjectionBits/8 - groups)
	} else {
		limit = t.MaxBytes - (least.FileBytes - groups)
		if (len(p.opts.Forms) > 0 || p.takesEnds()) && !p.bounded() {
			limit += headerPadding // which longer names may fill
			// Rows of int8 are one tensor less than a palette with row scales, and two data offsets.
			limit += int64(len(p.ends)) * 2 * digits(t.MaxBytes)
		}
	}
	if !p.keeps(least) {
		return 0, p.unreachable()
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

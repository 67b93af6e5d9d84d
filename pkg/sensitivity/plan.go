package sensitivity

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"afmq/internal/disk"
	"afmq/internal/infile"
	"afmq/internal/units"
	"afmq/pkg/artifact"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// PlanSchema is the version of the plans that this package reads and writes.
const PlanSchema = "afmq.plan/v1"

// Plan assigns bits to every module of a model. Quantization uses Layers, GroupRows and
// RowScale; the other fields document where the plan comes from. A person may edit the bits
// of a layer, or write a plan by hand, of which only schema, group_rows and layers are
// required.
type Plan struct {
	Schema      string  `json:"schema"`
	ToolVersion string  `json:"tool_version,omitempty"`
	Method      Method  `json:"method,omitempty"` // of the scores
	GroupRows   int     `json:"group_rows"`
	RowScale    bool    `json:"row_scale"`
	Target      *Target `json:"target,omitempty"` // a bound that the plan must keep, also after an edit
	// ExportTarget names the target of package target whose rules the plan must keep, also after an
	// edit; empty for none.
	ExportTarget string `json:"export_target,omitempty"`
	Bits         []int  `json:"bits,omitempty"` // widths of palettes to choose from
	// EndBits are the widths that embedding and head choose from, if they take part: 8 is rows of int8,
	// the others are palettes.
	EndBits []int `json:"end_bits,omitempty"`
	// Forms are those of another grid that were to choose from.
	Forms     []artifact.Form `json:"forms,omitempty"`
	Container *Container      `json:"container,omitempty"` // the file that a target in bytes bounds; null for model.safetensors
	Tie       []Tie           `json:"tie,omitempty"`       // modules of a layer with equal bits
	// Overrides are those that pinned modules, as REGEX=BITS.
	Overrides []string `json:"overrides,omitempty"`
	Seed      int64    `json:"seed,omitempty"` // of the random baseline

	// Results, at the time when the plan was made.
	BPW        artifact.BitsPerWeight `json:"bpw"`
	Bytes      int64                  `json:"bytes,omitempty"` // of model.safetensors, header included, or of Container
	Cost       float64                `json:"cost"`            // sum of the scores, in the unit of the method
	LowerBound float64                `json:"lower_bound"`     // lower bound of the cost of all choices of these widths within the target
	Optimal    bool                   `json:"optimal"`         // Cost is proven minimal, and equal to LowerBound
	Baselines  []Baseline             `json:"baselines,omitempty"`

	// Notes say which modules cannot have the form that was chosen for them, and what they have.
	Notes []string `json:"notes,omitempty"`

	// Layers are the projections in canonical order, then embedding and head where an override changes
	// them, where they take part in the allocation, and with forms.
	Layers []PlanLayer `json:"layers"`
}

// Target is an upper bound of the size of a model. BPW or MaxBytes is set.
type Target struct {
	BPW      float64 `json:"bpw,omitempty"`       // bits per weight, of what Of says
	MaxBytes int64   `json:"max_bytes,omitempty"` // bytes of model.safetensors, header included, or of a Container
	// Of is empty for the projections, which alone are chosen then, or OfModel.
	Of Scope `json:"of,omitempty"`
}

// Scope says which matrices take part in an allocation, and which weights a bound of bits per weight is
// of.
type Scope string

// OfModel is the scope of all parameters: BPW bounds artifact.BitsPerWeight.Model, and embedding and
// head take part.
const OfModel Scope = artifact.OfModel

// ParseScope reads "projections" or "model". Errors are fault.Usage.
func ParseScope(s string) (Scope, error) {
	switch s {
	case "projections":
		return "", nil
	case string(OfModel):
		return OfModel, nil
	}
	return "", fault.Usagef("%q: bits per weight are of projections or of model", s)
}

func (t Target) String() string {
	switch {
	case t.MaxBytes > 0:
		return units.Thousands(t.MaxBytes) + " bytes"
	case t.Of == OfModel:
		return fmt.Sprintf("%g bits per weight of the model", t.BPW)
	}
	return fmt.Sprintf("%g bits per weight", t.BPW)
}

// Figure returns the bits per weight that a bound of this scope is of.
func (t Target) Figure(b artifact.BitsPerWeight) float64 {
	if t.Of == OfModel {
		return b.Model
	}
	return b.Projections
}

// PlanLayer is one module of a plan.
type PlanLayer struct {
	Name string `json:"name"`
	Bits int    `json:"bits"` // 1 to 8, or 16 for an unquantized module
	// Form is the form on a grid that is no palette, and Bits are then those of its codes; or
	// artifact.RowInt8, for embedding and head, with 8 bits.
	Form   artifact.Form `json:"form,omitempty"`
	Cost   float64       `json:"cost,omitempty"`   // its score at these bits; 0 without a score
	Pinned bool          `json:"pinned,omitempty"` // by an override
}

// Baseline is the cost of a simpler allocation under the same target.
type Baseline struct {
	Name string  `json:"name"`
	BPW  float64 `json:"bpw"`  // bits per weight of what the target's are of
	Cost float64 `json:"cost"` // summed score, in the unit of the method
	Note string  `json:"note"` // description, for people
}

// Encode returns the content of the plan's file.
func (p *Plan) Encode() ([]byte, error) { return encode(p) }

// Write writes the plan to a new file. An existing file, or one that cannot be written, is
// an error of kind fault.Output.
func (p *Plan) Write(path string) error {
	data, err := p.Encode()
	if err != nil {
		return err
	}
	return disk.WriteNewFile(path, data)
}

// ReadPlan reads a plan and checks all that does not depend on the model. Errors are
// fault.Input.
func ReadPlan(path string) (*Plan, error) {
	data, err := infile.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	return ParsePlan(path, data)
}

// ParsePlan is ReadPlan of bytes; file is the name in errors.
func ParsePlan(file string, data []byte) (*Plan, error) {
	if err := otherKind(file, data, PlanSchema, "a plan"); err != nil {
		return nil, err
	}
	p := &Plan{}
	if err := decode(data, p); err != nil {
		if err := badBits(file, data); err != nil {
			return nil, err
		}
		return nil, fault.Inputf(file, "is not a plan: %v", err)
	}
	bad := func(format string, args ...any) (*Plan, error) { return nil, fault.Inputf(file, format, args...) }
	switch {
	case p.Schema != PlanSchema:
		return bad("has schema %q; this version reads %q", p.Schema, PlanSchema)
	case p.GroupRows < 1 || p.GroupRows > maxGroupRows:
		return bad("group_rows is %d; it must be 1 to %d", p.GroupRows, maxGroupRows)
	case len(p.Layers) == 0:
		return bad("has no layers")
	}
	if t := p.Target; t != nil {
		if err := t.check(); err != nil {
			return bad("target: %v", err)
		}
	}
	if err := p.Container.check(); err != nil {
		return bad("%v", err)
	}
	if p.Formed() {
		switch {
		case p.RowScale:
			return bad("row_scale is true, but its layers are no palettes")
		case p.ExportTarget != "":
			return bad("export_target %q has palettes, but its layers have forms", p.ExportTarget)
		case len(p.Bits) > 0:
			return bad("has bits to choose from and forms")
		}
	}
	if len(p.Forms) > 0 {
		if _, err := sortForms(p.Forms); err != nil {
			return bad("forms: %v", err)
		}
	}
	if _, err := exportTarget(p.ExportTarget); err != nil {
		return bad("export_target %.80q is unknown; the targets are %s", p.ExportTarget, strings.Join(target.Names(), ", "))
	}
	seen := map[string]bool{}
	for _, l := range p.Layers {
		if seen[l.Name] {
			return bad("layer %q is listed twice", l.Name)
		}
		seen[l.Name] = true
		if (l.Bits < 1 || l.Bits > 8) && l.Bits != artifact.KeepBits {
			return bad("layer %q: bits is %d; %s", l.Name, l.Bits, bitsExpected)
		}
		if err := l.checkForm(); err != nil {
			return bad("layer %q: %v", l.Name, err)
		}
	}
	return p, nil
}

func (t Target) check() error {
	switch {
	case (t.BPW != 0) == (t.MaxBytes != 0):
		return fmt.Errorf("must have either bpw or max_bytes")
	case t.MaxBytes < 0:
		return fmt.Errorf("max_bytes is %d; it must be positive", t.MaxBytes)
	case t.BPW < 0 || math.IsNaN(t.BPW) || math.IsInf(t.BPW, 0):
		return fmt.Errorf("bpw is %v; it must be positive and finite", t.BPW)
	case t.Of != "" && t.Of != OfModel:
		return fmt.Errorf("of is %.40q; it may be %q", t.Of, OfModel)
	}
	return nil
}

// Storage returns the storage parameters of the plan.
func (p *Plan) Storage() Storage { return Storage{p.GroupRows, p.RowScale} }

// Widths returns the width of every matrix of a model. It checks that the plan lists exactly
// the projections of the model, and possibly its head, that tied modules have equal bits,
// and that the plan keeps its target and the rules of its export target. file is the name in
// errors, which are fault.Input, and fault.Infeasible for those rules.
func (p *Plan) Widths(file string, shape *Shape) (map[string]Width, error) {
	widths, err := Widths(shape.Config, 4, nil)
	if err != nil {
		return nil, err
	}
	if p.Formed() {
		if widths, err = p.formWidths(file, shape); err != nil {
			return nil, err
		}
		return widths, p.checkTarget(file, shape, widths)
	}
	given := map[string]bool{}
	for _, l := range p.Layers {
		if _, ok := widths[l.Name]; !ok {
			return nil, fault.Inputf(file, "layer %q is not a projection of the model; the nearest names are %s", l.Name, strings.Join(nearest(l.Name, projections(shape.Config), 3), ", ")).
				WithHint("a plan is for the model whose scores it was made from; after an edit, check the spelling")
		}
		given[l.Name] = true
		switch {
		case l.Form == artifact.RowInt8 && slices.Contains(projections(shape.Config), l.Name):
			return nil, fault.Inputf(file, "layer %q has form %s, which only embedding and head have", l.Name, l.Form).
				WithHint("remove its \"form\" for a palette")
		case l.Form == artifact.RowInt8:
			widths[l.Name] = Width{Form: artifact.RowInt8}
		case l.Bits == artifact.KeepBits:
			widths[l.Name] = Width{Form: artifact.Plain}
		default:
			widths[l.Name] = Width{artifact.Palette, l.Bits}
		}
	}
	for _, name := range projections(shape.Config) {
		if !given[name] {
			return nil, fault.Inputf(file, "layer %q of the model is not in the plan", name)
		}
	}
	if err := p.checkTies(file, shape, widths); err != nil {
		return nil, err
	}
	exports, err := exportTarget(p.ExportTarget)
	if err != nil {
		return nil, fault.Inputf(file, "%v", err)
	}
	if exports != nil {
		if err := CheckTarget(exports, file, shape, p.Storage(), widths); err != nil {
			return nil, err
		}
	}
	return widths, p.checkTarget(file, shape, widths)
}

// checkTarget returns an error if an artifact with these widths exceeds the plan's target.
func (p *Plan) checkTarget(file string, shape *Shape, widths map[string]Width) error {
	if p.Target == nil {
		return nil
	}
	size, err := shape.Measure(p.Storage(), widths)
	if err == nil && p.Container != nil {
		size.FileBytes, err = p.Container.bytes(shape, p.Storage(), widths)
	}
	if err != nil {
		return err
	}
	if !p.Target.keptBy(size) {
		return fault.Inputf(file, "its layers have %.4f bits per weight and %d bytes, which exceeds its budget of %v", p.Target.Figure(size.BPW), size.FileBytes, *p.Target).
			WithHint("reduce the bits of a layer, or change or remove its budget, \"target\"")
	}
	return nil
}

func (p *Plan) checkTies(file string, shape *Shape, widths map[string]Width) error {
	for _, tie := range p.Tie {
		if _, err := parseTie(string(tie)); err != nil {
			return fault.Inputf(file, "%v", err)
		}
	}
	if a, b := untied(shape.Config, p.Tie, widths); a != "" {
		return fault.Inputf(file, "layers %q and %q are tied but have %v and %v", a, b, widths[a], widths[b])
	}
	return nil
}

// projections returns the names of a model's projections in canonical order.
func projections(cfg *model.Config) []string {
	var out []string
	for _, spec := range cfg.Tensors() {
		if spec.Role == model.Projection {
			out = append(out, spec.Module())
		}
	}
	return out
}

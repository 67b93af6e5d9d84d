package sensitivity

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"afmq/internal/infile"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// PlanSchema is the version of a plan that this package writes. It reads no other.
const PlanSchema = "afmq.plan/v1"

// Plan gives every module of a model its bits. Layers and Storage are what quantizing
// goes by; the rest says where it comes from. A person may edit the bits of a layer, or
// write a plan by hand with nothing but schema, group_rows and layers.
type Plan struct {
	Schema      string  `json:"schema"`
	ToolVersion string  `json:"tool_version,omitempty"`
	Method      Method  `json:"method,omitempty"` // of the scores
	GroupRows   int     `json:"group_rows"`
	RowScale    bool    `json:"row_scale"`
	Target      *Target `json:"target,omitempty"` // a bound that the plan must keep, edited or not
	Bits        []int   `json:"bits,omitempty"`   // the widths to choose from
	Tie         []Tie   `json:"tie,omitempty"`    // modules of a layer that have equal bits

	// What was found, when the plan was made.
	BPW        artifact.BitsPerWeight `json:"bpw"`
	Bytes      int64                  `json:"bytes,omitempty"` // of model.safetensors, header included
	Cost       float64                `json:"cost"`            // sum of the scores, in the unit of the method
	LowerBound float64                `json:"lower_bound"`     // no choice of these widths within the target costs less
	Optimal    bool                   `json:"optimal"`         // proven: Cost is LowerBound
	Baselines  []Baseline             `json:"baselines,omitempty"`

	Layers []PlanLayer `json:"layers"` // projections in canonical order, and a head that is palettized
}

// Target is one bound: bits per weight of the projections, or bytes of model.safetensors.
type Target struct {
	BPW      float64 `json:"bpw,omitempty"`
	MaxBytes int64   `json:"max_bytes,omitempty"`
}

func (t Target) String() string {
	if t.MaxBytes > 0 {
		return fmt.Sprintf("%d bytes", t.MaxBytes)
	}
	return fmt.Sprintf("%g bits per weight", t.BPW)
}

// PlanLayer is one module of a plan.
type PlanLayer struct {
	Name   string  `json:"name"`
	Bits   int     `json:"bits"`             // 1 to 8, or 16 to keep it as it is
	Cost   float64 `json:"cost,omitempty"`   // its score at these bits; 0 where there is none
	Pinned bool    `json:"pinned,omitempty"` // by an override
}

// Baseline is what another way to choose would have cost.
type Baseline struct {
	Name string  `json:"name"`
	BPW  float64 `json:"bpw"` // of the projections
	Cost float64 `json:"cost"`
	// Note says what it is, for people.
	Note string `json:"note"`
}

// Encode returns the bytes of a plan's file.
func (p *Plan) Encode() ([]byte, error) { return encode(p) }

// Write writes the plan to a file that must not exist.
func (p *Plan) Write(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return &fault.Error{Kind: fault.Output, File: path, Msg: "is there already"}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fault.Writing(path, err)
	}
	data, err := p.Encode()
	if err != nil {
		return err
	}
	return stage.WriteFileAtomic(path, data)
}

// ReadPlan reads a plan and checks it as far as that is possible without the model.
// Errors are fault.Input.
func ReadPlan(path string) (*Plan, error) {
	data, err := infile.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	return ParsePlan(path, data)
}

// ParsePlan is ReadPlan of bytes; file is what errors name.
func ParsePlan(file string, data []byte) (*Plan, error) {
	p := &Plan{}
	if err := decode(data, p); err != nil {
		return nil, fault.Inputf(file, "is not a plan: %v", err)
	}
	bad := func(format string, args ...any) (*Plan, error) { return nil, fault.Inputf(file, format, args...) }
	switch {
	case p.Schema != PlanSchema:
		return bad("has schema %q; this version reads %q", p.Schema, PlanSchema)
	case p.GroupRows < 1 || p.GroupRows > maxGroupRows:
		return bad("group_rows is %d; it may be 1 to %d", p.GroupRows, maxGroupRows)
	case len(p.Layers) == 0:
		return bad("has no layers")
	}
	if t := p.Target; t != nil {
		if err := t.check(); err != nil {
			return bad("target: %v", err)
		}
	}
	seen := map[string]bool{}
	for _, l := range p.Layers {
		if seen[l.Name] {
			return bad("layer %q is given twice", l.Name)
		}
		seen[l.Name] = true
		if (l.Bits < 1 || l.Bits > 8) && l.Bits != artifact.KeepBits {
			return bad("layer %q: %d bits; it may have 1 to 8, or 16 to stay as it is", l.Name, l.Bits)
		}
	}
	return p, nil
}

func (t Target) check() error {
	switch {
	case (t.BPW != 0) == (t.MaxBytes != 0):
		return fmt.Errorf("is either bpw or max_bytes")
	case t.MaxBytes < 0:
		return fmt.Errorf("%d bytes are negative", t.MaxBytes)
	case t.BPW < 0 || math.IsNaN(t.BPW) || math.IsInf(t.BPW, 0):
		return fmt.Errorf("%v bits per weight make no sense", t.BPW)
	}
	return nil
}

// Storage returns how the plan stores matrices.
func (p *Plan) Storage() Storage { return Storage{p.GroupRows, p.RowScale} }

// Widths returns what becomes of every matrix of a model, and checks that the plan lists
// exactly its projections, that modules tied together have equal bits, and that the
// plan keeps its target. file is what errors name; they are fault.Input.
func (p *Plan) Widths(file string, shape *Shape) (map[string]Width, error) {
	widths, err := Widths(shape.Config, 4, nil)
	if err != nil {
		return nil, err
	}
	given := map[string]bool{}
	for _, l := range p.Layers {
		w, ok := widths[l.Name]
		if !ok || (w.Form == artifact.RowInt8 && l.Name != "lm_head") {
			return nil, fault.Inputf(file, "layer %q is no projection of the model; the nearest names are %v", l.Name, nearest(l.Name, projections(shape.Config), 3))
		}
		given[l.Name] = true
		widths[l.Name] = Width{artifact.Palette, l.Bits}
		if l.Bits == artifact.KeepBits {
			widths[l.Name] = Width{Form: artifact.Plain}
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
	if p.Target != nil {
		size, err := shape.Measure(p.Storage(), widths)
		if err != nil {
			return nil, err
		}
		if p.Target.BPW > 0 && size.BPW.Projections > p.Target.BPW || p.Target.MaxBytes > 0 && size.FileBytes > p.Target.MaxBytes {
			return nil, fault.Inputf(file, "its layers take %.4f bits per weight and %d bytes; its target is %v", size.BPW.Projections, size.FileBytes, *p.Target).
				WithHint("give fewer bits to some layer, or change or remove \"target\"")
		}
	}
	return widths, nil
}

func (p *Plan) checkTies(file string, shape *Shape, widths map[string]Width) error {
	for _, tie := range p.Tie {
		if _, err := parseTie(string(tie)); err != nil {
			return fault.Inputf(file, "%v", err)
		}
	}
	first := map[string]string{}
	for _, spec := range shape.Config.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		group := tieName(p.Tie, spec)
		name := spec.Module()
		if other, ok := first[group]; ok && widths[other] != widths[name] {
			return fault.Inputf(file, "layers %q and %q are tied, and have %v and %v", other, name, widths[other], widths[name])
		}
		first[group] = name
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

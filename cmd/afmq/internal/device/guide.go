package device

import (
	"fmt"
	"regexp"
	"slices"

	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/sensitivity"
)

// Variant is a model as it is or as it might be.
type Variant struct {
	Name string  `json:"name"`            // "plan", "artifact", or the change of bits per weight: "+0.25"
	BPW  float64 `json:"bpw_projections"` //
	// Cost is the summed score of its plan; null where there are no scores.
	Cost *float64 `json:"cost"`
	Work Work     `json:"-"`
}

// offsets are the neighbours that a guide shows, in bits per weight: on each side, the
// nearer first.
var offsets = [][]float64{{-0.25, -0.5}, {0.25, 0.5}}

// Neighbours returns the optimal plans at a quarter and half a bit per weight more and less
// than center, made by the same request otherwise, in the order of their bits, with the
// variant in the middle among them. A neighbour that no widths can reach, or that is the
// same as one nearer to the middle, is left out and said so in the notes.
func Neighbours(middle Variant, center float64, s *sensitivity.Scores, shape *sensitivity.Shape, r sensitivity.Request) (variants []Variant, notes []string, err error) {
	variants = []Variant{middle}
	for _, side := range offsets {
		last := middle.BPW
		for _, offset := range side {
			name := fmt.Sprintf("%+.2f", offset)
			r.Target = sensitivity.Target{BPW: center + offset}
			if r.Target.BPW <= 0 {
				notes = append(notes, name+": out of reach")
				continue
			}
			p, err := sensitivity.MakePlan(s, shape, r)
			if fault.KindOf(err) == fault.Infeasible {
				notes = append(notes, fmt.Sprintf("%s: out of reach of these widths", name))
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			if p.BPW.Projections == last {
				notes = append(notes, fmt.Sprintf("%s: the same as the one before; these widths give no plan between", name))
				continue
			}
			last = p.BPW.Projections
			w, err := PlanWork(p, shape)
			if err != nil {
				return nil, nil, err
			}
			variants = append(variants, Variant{name, p.BPW.Projections, &p.Cost, w})
		}
	}
	slices.SortStableFunc(variants, func(a, b Variant) int {
		switch {
		case a.BPW < b.BPW:
			return -1
		case a.BPW > b.BPW:
			return 1
		}
		return 0
	})
	return variants, notes, nil
}

// PlanWork is the work of the model that a plan would make.
func PlanWork(p *sensitivity.Plan, shape *sensitivity.Shape) (Work, error) {
	widths, err := p.Widths("the plan", shape)
	if err != nil {
		return Work{}, err
	}
	layout, err := shape.Layout(p.Storage(), widths)
	if err != nil {
		return Work{}, err
	}
	return NewWork(shape.Config, layout), nil
}

// Repeat returns the request that a plan was made by, apart from its target: its widths,
// ties, and the modules that an override had pinned.
func Repeat(p *sensitivity.Plan) sensitivity.Request {
	r := sensitivity.Request{Bits: p.Bits, Ties: p.Tie}
	for _, l := range p.Layers {
		if l.Pinned {
			r.Overrides = append(r.Overrides, Pin(l.Name, l.Bits))
		}
	}
	return r
}

// Pin returns the override that gives one module its bits.
func Pin(module string, bits int) sensitivity.Override {
	return sensitivity.Override{Pattern: "^" + regexp.QuoteMeta(module) + "$", Bits: bits}
}

// Guide is what devices make of a model and its neighbours.
type Guide struct {
	Use     Use      `json:"use"`
	Devices []Device `json:"devices"`
	Notes   []string `json:"notes"`
}

// Device is one of them.
type Device struct {
	Profile *Profile `json:"profile"`
	Rows    []Row    `json:"rows"`
}

// Row is one variant on one device.
type Row struct {
	Variant
	Estimate
}

// NewGuide estimates every variant on every device.
func NewGuide(profiles []*Profile, cfg *model.Config, u Use, variants []Variant, notes []string) (*Guide, error) {
	u, err := u.Resolve(cfg)
	if err != nil {
		return nil, err
	}
	g := &Guide{Use: u, Devices: []Device{}, Notes: append([]string{}, notes...)}
	for _, p := range profiles {
		d := Device{Profile: p}
		for _, v := range variants {
			d.Rows = append(d.Rows, Row{v, p.Estimate(v.Work, u)})
		}
		g.Devices = append(g.Devices, d)
	}
	return g, nil
}

package device

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/sensitivity"
)

// Variant is a model at one size: an artifact, a plan, or a neighbour of either.
type Variant struct {
	Name string  `json:"name"`            // "plan", "artifact", or the change of bits per weight: "+0.25"
	BPW  float64 `json:"bpw_projections"` // bits per weight of the projections
	// Cost is the summed score of its plan; null without scores.
	Cost *float64 `json:"cost"`
	Work Work     `json:"-"`
}

// offsets are the neighbours of a guide, in bits per weight: on each side, the nearer first.
var offsets = [][]float64{{-0.25, -0.5}, {0.25, 0.5}}

// Neighbours returns middle and the optimal plans at a quarter and half a bit per weight
// more and less than center, with the same options otherwise, by increasing bits per weight.
// A neighbour out of reach of the widths, or equal to one nearer to the middle, is omitted,
// with a note.
func Neighbours(middle Variant, center float64, s *sensitivity.Scores, opts sensitivity.PlanOptions) (variants []Variant, notes []string, err error) {
	shape, err := s.Shape()
	if err != nil {
		return nil, nil, err
	}
	variants = []Variant{middle}
	for _, side := range offsets {
		last := middle.BPW
		for _, offset := range side {
			name := fmt.Sprintf("%+.2f", offset)
			opts.Target = sensitivity.Target{BPW: center + offset}
			if opts.Target.BPW <= 0 {
				notes = append(notes, name+": out of reach")
				continue
			}
			p, err := sensitivity.MakePlan(s, opts)
			if fault.KindOf(err) == fault.Infeasible {
				notes = append(notes, fmt.Sprintf("%s: out of reach of these widths", name))
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			if p.BPW.Projections == last {
				notes = append(notes, fmt.Sprintf("%s: the same plan as the nearer neighbour; these widths give none in between", name))
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

// PlanWork returns the work of the model that a plan describes.
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

// Repeat returns the options that a plan was made with, except its target and seed: its
// widths, its ties, and the modules that an override pinned. Embedding and head are pinned as the plan
// has them, rows of int8 aside, which need no override.
func Repeat(p *sensitivity.Plan) sensitivity.PlanOptions {
	r := sensitivity.PlanOptions{Bits: p.Bits, Forms: p.Forms, Ties: p.Tie}
	for _, l := range p.Layers {
		end := len(p.EndBits) > 0 && model.InputGroup(l.Name[strings.LastIndexByte(l.Name, '.')+1:]) == nil
		if l.Form != artifact.RowInt8 && (l.Pinned || end) {
			o := Pin(l.Name, l.Bits)
			if l.Form != "" {
				o.Bits, o.Form = 0, l.Form
			}
			r.Overrides = append(r.Overrides, o)
		}
	}
	return r
}

// Pin returns the override that fixes the bits of one module.
func Pin(module string, bits int) sensitivity.Override {
	return sensitivity.Override{Pattern: "^" + regexp.QuoteMeta(module) + "$", Bits: bits}
}

// Guide is the estimates of a model and its neighbours on devices.
type Guide struct {
	Use     Use      `json:"use"`
	Devices []Device `json:"devices"`
	Notes   []string `json:"notes"`
	// Measured is what programs reach of the estimates.
	Measured Measured `json:"measured"`
}

// Device is the part of a guide that is about one device.
type Device struct {
	Profile *Profile `json:"profile"`
	Rows    []Row    `json:"rows"`
}

// Row is the estimate of one variant on one device.
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
	g := &Guide{Use: u, Devices: []Device{}, Notes: append([]string{}, notes...), Measured: measured}
	for _, p := range profiles {
		d := Device{Profile: p}
		for _, v := range variants {
			d.Rows = append(d.Rows, Row{v, p.Estimate(v.Work, u)})
		}
		g.Devices = append(g.Devices, d)
	}
	return g, nil
}

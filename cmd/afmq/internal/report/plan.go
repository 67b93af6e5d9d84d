package report

import "afmq/pkg/sensitivity"

// Choice describes how the bits of a plan were chosen.
type Choice struct {
	Method    string                 `json:"method"`
	Target    string                 `json:"target,omitempty"`
	BPW       float64                `json:"bpw_projections"`
	BPWModel  float64                `json:"bpw_model,omitempty"` // where the target and the baselines are of the model
	Cost      float64                `json:"cost"`
	Bound     float64                `json:"lower_bound"`
	Optimal   bool                   `json:"optimal"`
	Baselines []sensitivity.Baseline `json:"baselines"`
	Pinned    int                    `json:"pinned"` // modules whose bits an override sets
	Made      bool                   `json:"made"`   // made by `afmq plan`, not written by hand
}

func (s *sources) choice() (any, error) {
	p := s.plan
	if p == nil {
		return nil, nil
	}
	d := &Choice{
		Method: show(string(p.Method)), BPW: s.art.manifest.BPW.Projections, Cost: p.Cost, Bound: p.LowerBound, Optimal: p.Optimal,
		Baselines: []sensitivity.Baseline{}, Made: p.Method != "",
	}
	if p.Target != nil {
		d.Target = p.Target.String()
		if p.Target.Of == sensitivity.OfModel {
			d.BPWModel = s.art.manifest.BPW.Model
		}
	}
	for _, b := range p.Baselines {
		d.Baselines = append(d.Baselines, sensitivity.Baseline{Name: show(b.Name), BPW: b.BPW, Cost: b.Cost, Note: show(b.Note)})
	}
	for _, l := range p.Layers {
		if l.Pinned {
			d.Pinned++
		}
	}
	return d, nil
}

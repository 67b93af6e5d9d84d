package report

import (
	"slices"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/sensitivity"
)

// devices returns the estimates for the artifact and, with scores, for the optimal plans with
// slightly more and fewer bits per weight.
func (s *sources) devices() (any, error) {
	if len(s.profiles) == 0 {
		return nil, nil
	}
	if _, err := s.opts.Use.Resolve(s.art.config); err != nil {
		return nil, err
	}
	this := device.Variant{Name: "this artifact", BPW: s.art.manifest.BPW.Projections, Work: device.NewWork(s.art.config, s.art.layout)}
	variants, notes := []device.Variant{this}, []string{"Add --scores to estimate plans with slightly more and fewer bits per weight."}
	switch {
	case s.art.manifest.Plan.Grid != "":
		notes = []string{"Plans with more and fewer bits per weight are shown for palettes only."}
	case s.scores != nil:
		scores, request, center, err := s.neighbours()
		if err != nil {
			return nil, err
		}
		this.Cost = s.cost()
		if variants, notes, err = device.Neighbours(this, center, scores, request); err != nil {
			return nil, err
		}
		if m := s.art.manifest.Plan; scores.GroupRows != s.scores.GroupRows || m.RowScale != s.scores.RowScale {
			notes = append(notes, "The scores were made with other group sizes or row scales than the artifact; sizes are those of the artifact's storage.")
		}
	}
	return device.NewGuide(s.profiles, s.art.config, s.opts.Use, variants, notes)
}

// neighbours returns the inputs of the plans near the artifact: the scores with the storage of
// the artifact; the request of the plan, if there is one, with overrides for the matrices that the
// artifact does not quantize, for its embedding and its head; and the bits per weight to center on.
func (s *sources) neighbours() (*sensitivity.Scores, sensitivity.PlanOptions, float64, error) {
	scores, m := *s.scores, s.art.manifest
	scores.GroupRows, scores.RowScale = m.Plan.GroupRows, m.Plan.RowScale
	center := m.BPW.Projections
	var r sensitivity.PlanOptions
	if s.plan != nil {
		r = device.Repeat(s.plan)
		for _, b := range r.Bits {
			if !slices.Contains(scores.Bits, b) {
				return nil, r, 0, fault.Inputf(s.opts.Plan, "chooses from %v bits; %s has scores for %v", r.Bits, show(s.opts.Scores), scores.Bits)
			}
		}
		if t := s.plan.Target; t != nil && t.BPW > 0 && t.Of == "" {
			center = t.BPW
		}
	}
	for i := range s.art.layout {
		st := &s.art.layout[i]
		if len(st.Spec.Shape) != 2 {
			continue
		}
		if st.Form == artifact.Plain {
			r.Overrides = append(r.Overrides, device.Pin(st.Spec.Module(), artifact.KeepBits))
		} else if st.Spec.Role != model.Projection && st.Form == artifact.Palette {
			r.Overrides = append(r.Overrides, device.Pin(st.Spec.Module(), st.Bits))
		}
	}
	return &scores, r, center, nil
}

// cost returns the sum of the scores at the artifact's bits, nil if a score is missing.
func (s *sources) cost() *float64 {
	sum, next := 0.0, 0
	for i := range s.art.layout {
		st := &s.art.layout[i]
		if st.Spec.Role != model.Projection {
			continue
		}
		cost, ok := s.scores.Cost(next, sensitivity.Width{Form: st.Form, Bits: st.Bits})
		next++
		if st.Form == artifact.Plain {
			continue
		}
		if !ok {
			return nil
		}
		sum += cost
	}
	return &sum
}

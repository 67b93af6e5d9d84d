package report

import "afmq/pkg/eval"

// Evaluation has all figures of all models, grouped by setting.
type Evaluation struct {
	Groups []EvaluationGroup `json:"groups"`
}

// EvaluationGroup has the figures of one setting.
type EvaluationGroup struct {
	Setting   Setting   `json:"setting"`
	Tokens    int       `json:"tokens"`
	Reference float64   `json:"reference_perplexity,omitempty"` // 0 without a reference
	Rows      []EvalRow `json:"rows"`
}

// Decimals returns the number of decimals in each column of divergences, chosen so that the largest
// number of the column has four digits.
func (g *EvaluationGroup) Decimals() (d struct{ Median, P99, P999, Max int }) {
	var most eval.Divergence
	for _, r := range g.Rows {
		if c := r.Evaluation.Comparison; c != nil {
			most.Median, most.P99 = max(most.Median, c.KL.Median), max(most.P99, c.KL.P99)
			most.P999, most.Max = max(most.P999, c.KL.P999), max(most.Max, c.KL.Max)
		}
	}
	d.Median, d.P99, d.P999, d.Max = decimals(most.Median), decimals(most.P99), decimals(most.P999), decimals(most.Max)
	return d
}

func (s *sources) evaluation() (any, error) {
	if len(s.evals) == 0 {
		return nil, nil
	}
	d := &Evaluation{}
	for _, g := range s.evals {
		e := EvaluationGroup{Setting: g.setting, Tokens: g.rows[0].Evaluation.Tokens}
		for _, r := range g.rows {
			if c := r.Evaluation.Comparison; c != nil && e.Reference == 0 {
				e.Reference = c.ReferencePerplexity
			}
			r.File = show(r.File)
			e.Rows = append(e.Rows, r)
		}
		d.Groups = append(d.Groups, e)
	}
	return d, nil
}

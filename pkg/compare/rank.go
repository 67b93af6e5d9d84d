package compare

import (
	"cmp"
	"fmt"
	"slices"

	"afmq/pkg/eval"
	"afmq/pkg/gate"
)

// MinWindows is the least number of windows of a text that tells two candidates apart. It is more
// than the interval of one mean needs ([gate.MinWindows]), because a wrong winner is a wrong choice:
// with 8 windows up to 20 % of the intervals miss the mean of differences that depend on each other and
// have a skewness of up to 2, with 16 up to 11 % (docs/compare.md).
const MinWindows = 16

// candidates returns the rows that are ranked: all but the reference.
func (r *Result) candidates() []*Row {
	var out []*Row
	for i := range r.Models {
		if r.Reference == nil || i > 0 {
			out = append(out, &r.Models[i])
		}
	}
	return out
}

// rank compares every two candidates, and finds which are dominated and which are best. Where paired
// is false, the text allows no intervals.
func (r *Result) rank(paired bool) error {
	rows := r.candidates()
	r.Confidence, r.Pairs = gate.Confidence, []Pair{}
	r.Quantity = ByLoss
	if r.Reference != nil {
		r.Quantity = ByKL
	}
	m := len(rows) * (len(rows) - 1) / 2
	for i, a := range rows {
		for _, b := range rows[i+1:] {
			p := Pair{A: a.Name, B: b.Name}
			if paired {
				iv, err := r.difference(a, b, 1-(1-gate.Confidence)/float64(m))
				if err != nil {
					return fmt.Errorf("comparing %s and %s: %w", a.Name, b.Name, err)
				}
				p.Difference = &iv
				p.Better = p.better()
			}
			r.Pairs = append(r.Pairs, p)
		}
	}
	r.conclude()
	return nil
}

// better returns the name of the candidate that the interval shows to be better; nil for none.
func (p *Pair) better() *string {
	switch iv := p.Difference; {
	case iv == nil:
	case iv.Low > 0:
		return &p.A
	case iv.High < 0:
		return &p.B
	}
	return nil
}

// conclude sets the standing of the candidates, the front and the best of each size by the pairs.
func (r *Result) conclude() {
	r.Best, r.Front = []Best{}, []string{}
	better := map[[2]string]bool{} // the first is shown to be better than the second
	for _, p := range r.Pairs {
		switch {
		case p.Better == nil:
		case *p.Better == p.A:
			better[[2]string{p.A, p.B}] = true
		default:
			better[[2]string{p.B, p.A}] = true
		}
	}
	rows := r.candidates()
	r.dominate(rows, better)
	r.choose(rows, better)
}

// difference returns the interval of the mean of the quantity of b less that of a.
func (r *Result) difference(a, b *Row, confidence float64) (gate.Interval, error) {
	weights, values := make([]float64, len(a.windows)), make([]float64, len(a.windows))
	for i, w := range a.windows {
		weights[i], values[i] = float64(w.Tokens), r.of(&b.windows[i])-r.of(&w)
	}
	return gate.MeanInterval(weights, values, confidence)
}

// of returns the quantity of a window.
func (r *Result) of(w *eval.WindowScore) float64 {
	if r.Quantity == ByKL {
		return *w.KL
	}
	return w.Nats
}

// mean returns the quantity of a row.
func (r *Result) mean(row *Row) float64 {
	if r.Quantity == ByKL {
		return row.Divergence.KL.Mean
	}
	return row.NatsPerToken
}

// dominate sets the standing of every row, and the front.
func (r *Result) dominate(rows []*Row, better map[[2]string]bool) {
	for _, b := range rows {
		b.Standing, b.DominatedBy, b.NotShownBetterThan = OnFront, []string{}, []string{}
		for _, a := range rows {
			switch {
			case a == b || a.Bytes > b.Bytes:
			case better[[2]string{a.Name, b.Name}]:
				b.Standing, b.DominatedBy = IsDominated, append(b.DominatedBy, a.Name)
			case !better[[2]string{b.Name, a.Name}]:
				b.NotShownBetterThan = append(b.NotShownBetterThan, a.Name)
			}
		}
	}
	for _, row := range r.bySize(rows) {
		if row.Standing == OnFront {
			r.Front = append(r.Front, row.Name)
		}
	}
}

// bySize returns rows in ascending order of size, those of one size by their mean.
func (r *Result) bySize(rows []*Row) []*Row {
	return slices.SortedStableFunc(slices.Values(rows), func(a, b *Row) int {
		return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(r.mean(a), r.mean(b)))
	})
}

// choose sets the best candidates up to every size.
func (r *Result) choose(rows []*Row, better map[[2]string]bool) {
	sorted := r.bySize(rows)
	for i, last := range sorted {
		if i+1 < len(sorted) && sorted[i+1].Bytes == last.Bytes {
			continue
		}
		within := slices.SortedStableFunc(slices.Values(sorted[:i+1]), func(a, b *Row) int { return cmp.Compare(r.mean(a), r.mean(b)) })
		b := Best{MaxBytes: last.Bytes, Models: []string{within[0].Name}}
		for _, other := range within[1:] {
			if !better[[2]string{within[0].Name, other.Name}] {
				b.Models = append(b.Models, other.Name)
			}
		}
		r.Best = append(r.Best, b)
	}
}

package compare

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"

	"afmq/internal/infile"
)

// Check returns an error unless a result that was read from a file is one that [Run] can return:
// names are unique, figures possible, every two candidates are a pair, and standing, front and best
// follow from sizes and pairs.
func (r *Result) Check() error {
	if len(r.candidates()) == 0 {
		return errors.New("it has no models")
	}
	want := ByLoss
	if r.Reference != nil {
		want = ByKL
	}
	if r.Quantity != want || !infile.IsSHA256(r.DataSHA256) || r.Tokens < 1 || r.Windows < 1 || r.Ctx < 1 || r.Stride < 0 || !(r.Confidence > 0 && r.Confidence < 1) {
		return errors.New("its quantity, text or setting is impossible")
	}
	if r.Reference != nil && (r.Models[0].Name != *r.Reference || r.Models[0].Standing != IsReference || r.Models[0].Divergence != nil) {
		return fmt.Errorf("its first model is not the reference %.80q", *r.Reference)
	}
	names := map[string]bool{}
	for i := range r.Models {
		row := &r.Models[i]
		if names[row.Name] || row.Name == "" {
			return fmt.Errorf("two models are called %.80q", row.Name)
		}
		names[row.Name] = true
		if err := row.check(r.Reference != nil && i > 0); err != nil {
			return fmt.Errorf("model %.80q: %w", row.Name, err)
		}
	}
	return r.checkPairs()
}

// check refuses impossible figures of a row.
func (row *Row) check(compared bool) error {
	if row.Bytes < 0 || !(row.BPW.Model >= 0 && row.BPW.Model <= 64) || !(row.BPW.Projections >= 0 && row.BPW.Projections <= 64) {
		return errors.New("its size is impossible")
	}
	for _, d := range []string{row.Identity.Digest, row.Identity.Source, row.Tokenizer} {
		if !infile.IsSHA256(d) {
			return fmt.Errorf("%.80q is not a SHA-256 in lower-case hex", d)
		}
	}
	if !(row.Perplexity >= 1) || math.Abs(math.Exp(row.NatsPerToken)/row.Perplexity-1) > 1e-6 || !(row.PerplexitySE >= 0) || !(row.Speed >= 0) {
		return fmt.Errorf("a perplexity of %v ± %v from %v nats per token is impossible", row.Perplexity, row.PerplexitySE, row.NatsPerToken)
	}
	if compared != (row.Divergence != nil) {
		return errors.New("it has a divergence without a reference, or the reverse")
	}
	if d := row.Divergence; d != nil {
		k := d.KL
		if !(k.Mean >= 0 && k.Median >= 0 && k.P99 >= k.Median && k.P999 >= k.P99 && k.Max >= k.P999) || !(d.SameTop1 >= 0 && d.SameTop1 <= 1) {
			return fmt.Errorf("a divergence of %v on average, %v at most, is impossible", k.Mean, k.Max)
		}
	}
	if row.Tasks == nil {
		return nil
	}
	for _, s := range row.Tasks.Scores {
		if f := s.Flips; f != nil && (f.Items < 1 || f.Worse < 0 || f.Better < 0 || f.Worse > f.Items-f.Better) {
			return fmt.Errorf("task %.80q: %d and %d flips of %d items are impossible", s.Task, f.Worse, f.Better, f.Items)
		}
		if s.AtChance && s.Chance == nil {
			return fmt.Errorf("task %.80q has no level of chance", s.Task)
		}
	}
	return nil
}

// checkPairs refuses pairs that are not those of the candidates, and what does not follow from them.
func (r *Result) checkPairs() error {
	rows := r.candidates()
	at := 0
	for i, a := range rows {
		for _, b := range rows[i+1:] {
			if at == len(r.Pairs) || r.Pairs[at].A != a.Name || r.Pairs[at].B != b.Name {
				return fmt.Errorf("the pair of %.80q and %.80q is missing", a.Name, b.Name)
			}
			p := &r.Pairs[at]
			if iv := p.Difference; iv != nil && !(iv.Low <= iv.Mean && iv.Mean <= iv.High && iv.SE >= 0) {
				return fmt.Errorf("an interval of %v to %v about %v is impossible", iv.Low, iv.High, iv.Mean)
			}
			want := p.better()
			if (want == nil) != (p.Better == nil) || want != nil && *want != *p.Better {
				return fmt.Errorf("the better one of %.80q and %.80q does not follow from the interval", a.Name, b.Name)
			}
			at++
		}
	}
	if at != len(r.Pairs) {
		return errors.New("it has more pairs than models")
	}
	derived := Result{Reference: r.Reference, Quantity: r.Quantity, Models: slices.Clone(r.Models), Pairs: r.Pairs}
	derived.conclude()
	for i := range r.Models {
		a, b := &r.Models[i], &derived.Models[i]
		if a.Standing != b.Standing || !slices.Equal(a.DominatedBy, b.DominatedBy) || !slices.Equal(a.NotShownBetterThan, b.NotShownBetterThan) {
			return fmt.Errorf("the standing of %.80q does not follow from sizes and pairs", a.Name)
		}
	}
	if !slices.Equal(r.Front, derived.Front) || !reflect.DeepEqual(r.Best, derived.Best) {
		return errors.New("front and best do not follow from sizes and pairs")
	}
	return nil
}

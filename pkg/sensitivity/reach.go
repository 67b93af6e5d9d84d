package sensitivity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"afmq/internal/units"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
)

// sizeRange is the range of sizes that plans with some options can have.
type sizeRange struct {
	bits        []int // ascending
	forms       []artifact.Form
	rowScale    bool
	least, most Size // all modules at the first width, and at the last
}

// rangeOf returns the range of the same request with other widths and row scales.
func (p *planner) rangeOf(bits []int, rowScale bool) (*sizeRange, error) {
	opts := p.opts
	opts.Bits = bits
	q, err := newPlanner(p.shape, Storage{p.storage.GroupRows, rowScale}, opts)
	if err != nil {
		return nil, err
	}
	r := &sizeRange{bits: q.opts.Bits, forms: q.opts.Forms, rowScale: rowScale}
	if r.least, err = q.measure(q.least()); err != nil {
		return nil, err
	}
	r.most, err = q.measure(q.most())
	return r, err
}

// flags returns the flags that select the range.
func (r *sizeRange) flags() string {
	if len(r.forms) > 0 {
		return formFlags(r.forms)
	}
	s := "--bits " + joinBits(r.bits)
	if !r.rowScale {
		s += " --row-scale=false"
	}
	return s
}

// formFlags returns the flags that select forms of one grid.
func formFlags(forms []artifact.Form) string {
	g, err := formGrid(forms[0])
	if err != nil {
		return fmt.Sprint(forms)
	}
	var names []string
	for _, f := range forms {
		names = append(names, string(f))
	}
	return fmt.Sprintf("--grid %s with %s", grid.Family(g), strings.Join(names, ","))
}

func joinBits(bits []int) string {
	parts := make([]string, len(bits))
	for i, b := range bits {
		parts[i] = strconv.Itoa(b)
	}
	return strings.Join(parts, ",")
}

// of returns the quantity of a size that the target bounds, for people.
func (t Target) of(s Size) string {
	if t.MaxBytes > 0 {
		return fmt.Sprintf("%s (%s bytes)", units.Size(s.FileBytes), units.Thousands(s.FileBytes))
	}
	return fmt.Sprintf("%.4f", t.Figure(s.BPW))
}

// keptBy reports whether an artifact of this size keeps the target.
func (t Target) keptBy(s Size) bool {
	if t.MaxBytes > 0 {
		return s.FileBytes <= t.MaxBytes
	}
	return t.Figure(s.BPW) <= t.BPW
}

// unreachable returns the error for a target below the least size, with the range of the
// options and the flags that reach the target.
func (p *planner) unreachable() error {
	t := p.opts.Target
	here, err := p.rangeOf(p.opts.Bits, p.storage.RowScale)
	if err != nil {
		return err
	}
	fixed := ""
	if len(p.opts.Overrides) > 0 {
		fixed = " with these overrides"
	}
	fe := fault.Infeasiblef("the budget of %v cannot be reached: %s reaches %s to %s%s", t, here.flags(), t.of(here.least), t.of(here.most), fixed)
	if len(p.opts.Forms) > 0 {
		return fe.WithHint("give a smaller form to choose from, or raise the budget")
	}
	last := here
	for _, rowScale := range []bool{true, false} {
		if rowScale && !p.storage.RowScale {
			continue
		}
		for low := p.opts.Bits[0]; low >= 1; low-- {
			if len(p.allowed([]int{low})) == 0 {
				continue
			}
			bits := append([]int{low}, p.opts.Bits...)
			if last, err = p.rangeOf(slices.Compact(bits), rowScale); err != nil {
				return err
			}
			if t.keptBy(last.least) {
				return fe.WithHint("%s down to %s", p.reaches(last), t.of(last.least))
			}
		}
	}
	return fe.WithHint("no flags reach it; the least is %s, with %s", t.of(last.least), last.flags())
}

// excess returns a line about a target above the largest size, which bounds nothing; empty if
// the target is a bound.
func (p *planner) excess() (string, error) {
	t := p.opts.Target
	here, err := p.rangeOf(p.opts.Bits, p.storage.RowScale)
	if err != nil || !t.keptBy(here.most) || t.BPW > 0 && t.Figure(here.most.BPW) == t.BPW || here.most.FileBytes == t.MaxBytes {
		return "", err
	}
	widestName := optionName(p.list[len(p.list)-1])
	if t.Of == OfModel {
		widestName += ", embedding and head 8"
	}
	s := fmt.Sprintf("the budget of %v is above %s, the most that %s reaches: all modules get %s", t, t.of(here.most), here.flags(), widestName)
	if len(p.opts.Forms) > 0 {
		return s, nil
	}
	widest := p.opts.Bits[len(p.opts.Bits)-1]
	for high := widest + 1; high <= 8; high++ {
		if len(p.allowed([]int{high})) == 0 {
			continue
		}
		more, err := p.rangeOf(append(slices.Clone(p.opts.Bits), high), p.storage.RowScale)
		if err != nil {
			return "", err
		}
		if high == 8 || !t.keptBy(more.most) {
			return fmt.Sprintf("%s; %s %s", s, p.reaches(more), t.of(more.most)), nil
		}
	}
	return s, nil
}

// reaches returns "FLAGS reaches", or which scores do if a plan of that range needs other ones.
func (p *planner) reaches(r *sizeRange) string {
	unscored := func(b int) bool { return !slices.Contains(p.scored, b) }
	if len(p.scored) > 0 && (r.rowScale != p.storage.RowScale || slices.ContainsFunc(r.bits, unscored)) {
		return fmt.Sprintf("scores of `afmq sensitivity %s` reach", r.flags())
	}
	return r.flags() + " reaches"
}

// Excess returns a line for people if the target is above what the widths reach, so that it
// bounds nothing; empty if the target is a bound. The widths of opts are those of [Feasible].
// Errors are of kind fault.Usage.
func Excess(shape *Shape, st Storage, opts PlanOptions) (string, error) {
	p, err := newPlanner(shape, st, opts)
	if err != nil {
		return "", err
	}
	return p.excess()
}

// Excess is [Excess] of a plan from these scores.
func (s *Scores) Excess(opts PlanOptions) (string, error) {
	p, err := plannerOf(s, opts)
	if err != nil {
		return "", err
	}
	return p.excess()
}

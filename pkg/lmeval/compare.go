package lmeval

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"afmq/pkg/fault"
)

// Score is one score of a model on a task, beside that of the reference.
type Score struct {
	Task           string   `json:"task"`
	Metric         string   `json:"metric"`
	Filter         string   `json:"filter"` // of the answers; "none" for none
	Group          bool     `json:"group"`  // the task is a group of tasks
	Within         string   `json:"within"` // group that the task belongs to; empty for none
	Items          int      `json:"items"`  // that were scored; 0 where the file does not say
	Value          float64  `json:"value"`
	StdErr         *float64 `json:"stderr"`           // of Value; nil where lm_eval gives none
	HigherIsBetter *bool    `json:"higher_is_better"` // nil where lm_eval does not say
	Chance         *float64 `json:"chance"`           // score of guessing; nil unless the task is multiple choice with samples
	// Reference is the score of the reference. It and what follows are nil without one.
	Reference *float64 `json:"reference"`
	// Recovery is the score in per cent of the reference's, or the reverse where lower is better.
	Recovery *float64 `json:"recovery"`
	// OverChance is the same of what both have over Chance; nil where Chance is, or where the
	// reference is not shown to be better than guessing.
	OverChance *float64 `json:"recovery_over_chance"`
	// AtChance: the reference is not shown to be better than guessing, so that Recovery says
	// nothing.
	AtChance bool   `json:"reference_at_chance"`
	Flips    *Flips `json:"flips"` // nil without the samples of both, and where items are not right or wrong
}

// Flips counts the items whose answer is right in one run and wrong in the other. Two models with
// the same score may differ in many items.
type Flips struct {
	Items  int     `json:"items"`
	Worse  int     `json:"worse"`  // right under the reference, wrong here
	Better int     `json:"better"` // wrong under the reference, right here
	Share  float64 `json:"share"`  // (Worse + Better) / Items
	// PValue is that of McNemar's exact test: the probability that items which flip do so at least
	// as unevenly if both directions are equally likely.
	PValue float64 `json:"p_value"`
}

// Compare returns the scores of a run, tasks by name, beside those of the reference; reference is
// nil for none. Warnings name what only one of the two has. Two runs that cannot be compared
// ([Results.CheckComparable]), and samples that are of other runs or items, are errors.
func Compare(reference, run *Results) (scores []Score, warnings []string, err error) {
	if reference != nil {
		if err := run.CheckComparable(reference); err != nil {
			return nil, nil, err
		}
		warnings = unshared(reference, run)
	}
	within := map[string]string{}
	for _, t := range run.Tasks {
		for _, s := range t.Subtasks {
			within[s] = t.Name
		}
	}
	flips := map[string]*Flips{} // of tasks, by task, metric and filter
	for i := range run.Tasks {
		t := &run.Tasks[i]
		if t.Subtasks != nil {
			continue
		}
		s, err := compareTask(reference, run, t, flips)
		if err != nil {
			return nil, nil, err
		}
		scores = append(scores, s...)
	}
	for i := range run.Tasks {
		if t := &run.Tasks[i]; t.Subtasks != nil {
			scores = append(scores, compareGroup(reference, run, t, flips)...)
		}
	}
	for i := range scores {
		scores[i].Within = within[scores[i].Task]
	}
	slices.SortStableFunc(scores, func(a, b Score) int { return strings.Compare(a.Task, b.Task) })
	return scores, warnings, nil
}

// unshared names the tasks that only one of the runs has, and another version of lm_eval.
func unshared(reference, run *Results) (warnings []string) {
	for _, x := range []struct{ has, lacks *Results }{{reference, run}, {run, reference}} {
		var missing []string
		for _, t := range x.has.Tasks {
			if x.lacks.Task(t.Name) == nil {
				missing = append(missing, t.Name)
			}
		}
		const most = 5
		if n := len(missing); n > most {
			missing = append(missing[:most], fmt.Sprintf("and %d more", n-most))
		}
		if len(missing) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s lacks tasks of %s: %s", x.lacks.File, x.has.File, strings.Join(missing, ", ")))
		}
	}
	if reference.Version != run.Version {
		warnings = append(warnings, fmt.Sprintf("%s is of lm_eval %.40q, %s of %.40q", run.File, run.Version, reference.File, reference.Version))
	}
	return warnings
}

// compareTask returns the scores of a task, and adds its flips to flips.
func compareTask(reference, run *Results, t *Task, flips map[string]*Flips) ([]Score, error) {
	mine, err := run.read(t)
	if err != nil {
		return nil, err
	}
	var theirs *samples
	var base *Task
	if reference != nil {
		base = reference.Task(t.Name)
	}
	if base != nil {
		if theirs, err = reference.read(base); err != nil {
			return nil, err
		}
	}
	if mine != nil && theirs != nil {
		if err := mine.sameItems(theirs, t.Name); err != nil {
			return nil, err
		}
	}
	var out []Score
	for _, m := range t.Metrics {
		s := newScore(t, m, base)
		s.Chance = mine.chance(m)
		if s.Chance == nil {
			s.Chance = theirs.chance(m)
		}
		s.overChance(base.metric(m))
		if mine != nil && theirs != nil {
			s.Flips = countFlips(m, theirs.filters[m.Filter], mine.filters[m.Filter])
			flips[t.Name+"\x00"+m.Name+"\x00"+m.Filter] = s.Flips
		}
		out = append(out, s)
	}
	return out, nil
}

// compareGroup returns the scores of a group; its flips are those of its tasks together.
func compareGroup(reference, run *Results, t *Task, flips map[string]*Flips) []Score {
	var base *Task
	if reference != nil {
		base = reference.Task(t.Name)
	}
	var out []Score
	for _, m := range t.Metrics {
		s := newScore(t, m, base)
		s.Group, s.Flips = true, &Flips{}
		for _, name := range run.leaves(t, 0) {
			f := flips[name+"\x00"+m.Name+"\x00"+m.Filter]
			if f == nil {
				s.Flips = nil
				break
			}
			s.Flips.Items, s.Flips.Worse, s.Flips.Better = s.Flips.Items+f.Items, s.Flips.Worse+f.Worse, s.Flips.Better+f.Better
		}
		if s.Flips != nil && s.Flips.Items == 0 {
			s.Flips = nil
		}
		s.Flips.summarize()
		out = append(out, s)
	}
	return out
}

// leaves returns the tasks of a group and of the groups in it.
func (r *Results) leaves(t *Task, depth int) (names []string) {
	for _, name := range t.Subtasks {
		sub := r.Task(name)
		if sub == nil || sub.Subtasks == nil || depth > 8 {
			names = append(names, name)
			continue
		}
		names = append(names, r.leaves(sub, depth+1)...)
	}
	return names
}

// metric returns the same metric of a task; nil where it has none.
func (t *Task) metric(m Metric) *Metric {
	if t == nil {
		return nil
	}
	for i := range t.Metrics {
		if t.Metrics[i].Name == m.Name && t.Metrics[i].Filter == m.Filter {
			return &t.Metrics[i]
		}
	}
	return nil
}

// newScore returns a score with its recovery; base is the task of the reference, nil for none.
func newScore(t *Task, m Metric, base *Task) Score {
	s := Score{Task: t.Name, Metric: m.Name, Filter: m.Filter, Items: t.Items, Value: m.Value, StdErr: m.StdErr, HigherIsBetter: m.HigherIsBetter}
	b := base.metric(m)
	if b == nil {
		return s
	}
	s.Reference = &b.Value
	if up := m.HigherIsBetter; up != nil && m.Value >= 0 && b.Value >= 0 {
		of, by := m.Value, b.Value
		if !*up {
			of, by = by, of
		}
		if share := 100 * (of / by); by > 0 && !math.IsInf(share, 0) {
			s.Recovery = &share
		}
	}
	return s
}

// overChance compares the score and that of the reference with guessing.
func (s *Score) overChance(reference *Metric) {
	if s.Chance == nil || reference == nil {
		return
	}
	chance, se := *s.Chance, 0.0
	if reference.StdErr != nil {
		se = *reference.StdErr
	} else if s.Items > 0 {
		se = math.Sqrt(chance * (1 - chance) / float64(s.Items))
	}
	over := reference.Value - chance
	if over <= twoSided*se || over <= 0 {
		s.AtChance = true
		return
	}
	share := 100 * (s.Value - chance) / over
	s.OverChance = &share
}

// twoSided is the quantile of the normal distribution for a two-sided interval of 95 %.
const twoSided = 1.959963984540054

// sameItems returns an error unless both have the same items, by doc_id and hashes.
func (s *samples) sameItems(reference *samples, task string) error {
	hint := "run both models with the same tasks and options of lm_eval"
	for _, filter := range slices.Sorted(maps.Keys(reference.filters)) {
		theirs, mine := reference.filters[filter], s.filters[filter]
		if len(mine) != len(theirs) {
			return fault.Inputf(s.file, "has %d items of task %s with filter %q; %s has %d", len(mine), task, filter, reference.file, len(theirs)).WithHint("%s", hint)
		}
		for _, id := range slices.Sorted(maps.Keys(theirs)) {
			a, b := theirs[id], mine[id]
			if b == nil {
				return fault.Inputf(s.file, "has no item with doc_id %d of task %s, which %s has", id, task, reference.file).WithHint("%s", hint)
			}
			for i, key := range hashKeys {
				if a.hashes[i] != b.hashes[i] {
					return fault.Inputf(s.file, "has another item with doc_id %d of task %s than %s: %s is %.16s…, not %.16s…", id, task, reference.file, key, b.hashes[i], a.hashes[i]).WithHint("%s", hint)
				}
			}
		}
	}
	return nil
}

// countFlips counts the flips of a metric; nil unless every item is right (1) or wrong (0) in both.
func countFlips(m Metric, reference, run map[int64]*sample) *Flips {
	if len(reference) == 0 {
		return nil
	}
	f := &Flips{Items: len(reference)}
	for id, a := range reference {
		x, ok := a.values[m.Name]
		y, too := run[id].values[m.Name]
		if !ok || !too || x != 0 && x != 1 || y != 0 && y != 1 {
			return nil
		}
		switch {
		case x > y:
			f.Worse++
		case x < y:
			f.Better++
		}
	}
	if m.HigherIsBetter != nil && !*m.HigherIsBetter {
		f.Worse, f.Better = f.Better, f.Worse
	}
	f.summarize()
	return f
}

// summarize computes the share and the p-value.
func (f *Flips) summarize() {
	if f == nil {
		return
	}
	f.Share = float64(f.Worse+f.Better) / float64(f.Items)
	f.PValue = signTest(f.Worse, f.Better)
}

// signTest returns the two-sided p-value of a against b under equal probabilities:
// min(1, 2·P(X ≤ min(a, b))) with X binomial(a+b, ½).
func signTest(a, b int) float64 {
	n, least := a+b, min(a, b)
	sum := 0.0
	for k := range least + 1 {
		sum += math.Exp(logChoose(n, k) - float64(n)*math.Ln2)
	}
	return min(1, 2*sum)
}

func logChoose(n, k int) float64 {
	lg := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	return lg(n) - lg(k) - lg(n-k)
}

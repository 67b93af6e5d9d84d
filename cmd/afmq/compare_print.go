package main

import (
	"fmt"
	"io"
	"strings"

	"afmq/pkg/compare"
	"afmq/pkg/lmeval"
)

// mostPairs is the number of pairs that are printed; --json has all.
const mostPairs = 10

// textGrid is a table for people: a title, a head and rows.
type textGrid struct {
	title string
	head  []string
	rows  [][]string
}

func printCompare(w io.Writer, o *compareObject) error {
	err := table(w, func(w io.Writer) {
		for _, f := range compareFacts(o) {
			fmt.Fprintf(w, "%s\t%s\n", f[0], f[1])
		}
	})
	if err != nil {
		return err
	}
	grids := append([]textGrid{sizeGrid(o), lossGrid(o)}, pairGrid(o)...)
	for _, g := range append(grids, taskGrids(o)...) {
		if err := g.print(w); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return table(w, func(w io.Writer) {
		for _, c := range conclusions(o) {
			fmt.Fprintf(w, "%s\t%s\n", c[0], c[1])
		}
	})
}

func (g textGrid) print(w io.Writer) error {
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if g.title != "" {
		if _, err := fmt.Fprintln(w, fold(g.title)); err != nil {
			return err
		}
	}
	return table(w, func(w io.Writer) {
		fmt.Fprintln(w, strings.Join(g.head, "\t"))
		for _, row := range g.rows {
			fmt.Fprintln(w, strings.Join(row, "\t"))
		}
	})
}

// compareFacts describe what was compared.
func compareFacts(o *compareObject) [][2]string {
	protocol := fmt.Sprintf("%s, ctx %d", o.Protocol, o.Ctx)
	if o.Stride > 0 {
		protocol += fmt.Sprintf(", stride %d", o.Stride)
	}
	facts := [][2]string{
		{"text", whole(printable(o.Data))},
		{"scored", fmt.Sprintf("%s tokens in %s windows (%s, %s)", thousands(int64(o.Tokens)), thousands(int64(o.Windows)), protocol, o.Compute)},
	}
	if o.Reference != nil {
		facts = append(facts, [2]string{"reference", whole(printable(*o.Reference))})
	}
	return facts
}

func rowName(r *compare.Row) string { return whole(printable(r.Name)) }

func plusMinus(format string, x, se float64) string {
	return fmt.Sprintf(format+" ± "+format, x, se)
}

// rowBPW returns the bits per weight of all that is shipped.
func rowBPW(r *compare.Row) float64 {
	if r.BPW.WithAdapter != nil {
		return *r.BPW.WithAdapter
	}
	return r.BPW.Model
}

// sizeGrid has the figures that every row has.
func sizeGrid(o *compareObject) textGrid {
	g := textGrid{head: []string{"model", "size", "bpw", "perplexity", "bits/byte", "tokens/s"}}
	for i := range o.Models {
		r := &o.Models[i]
		g.rows = append(g.rows, []string{
			rowName(r), size(r.Bytes), fmt.Sprintf("%.3f", rowBPW(r)), plusMinus("%.4f", r.Perplexity, r.PerplexitySE),
			fmt.Sprintf("%.4f", r.BitsPerByte), thousands(int64(r.Speed)),
		})
	}
	return g
}

// lossGrid has the divergence and what the comparison says of a row.
func lossGrid(o *compareObject) textGrid {
	g := textGrid{head: []string{"model", "standing"}}
	if o.Reference != nil {
		g.head = []string{"model", "KL", "99.9 %", "same top", "standing"}
	}
	for i := range o.Models {
		r := &o.Models[i]
		row := []string{rowName(r)}
		if o.Reference != nil {
			row = append(row, divergenceCells(r)...)
		}
		g.rows = append(g.rows, append(row, standing(r)))
	}
	return g
}

// divergenceCells are the mean divergence, its 99.9th percentile, and the same most likely token.
func divergenceCells(r *compare.Row) []string {
	d := r.Divergence
	if d == nil {
		return []string{"-", "-", "-"}
	}
	kl := fmt.Sprintf("%.5f", d.KL.Mean)
	if iv := d.KLInterval; iv != nil {
		kl = plusMinus("%.5f", d.KL.Mean, iv.SE)
	}
	return []string{kl, fmt.Sprintf("%.4f", d.KL.P999), fmt.Sprintf("%.2f %%", 100*d.SameTop1)}
}

func standing(r *compare.Row) string {
	switch {
	case r.Standing == compare.IsReference:
		return "reference"
	case r.Standing == compare.IsDominated:
		return "dominated by " + names(r.DominatedBy)
	case len(r.NotShownBetterThan) > 0:
		return "not shown better than " + names(r.NotShownBetterThan)
	}
	return "on the front"
}

func names(list []string) string {
	shown := make([]string, len(list))
	for i, n := range list {
		shown[i] = whole(printable(n))
	}
	return strings.Join(shown, ", ")
}

// quantityWords name what candidates are ranked by.
var quantityWords = map[compare.Quantity]string{compare.ByKL: "KL", compare.ByLoss: "loss"}

// pairGrid has the paired differences, unless there are none or many.
func pairGrid(o *compareObject) []textGrid {
	if len(o.Pairs) == 0 || len(o.Pairs) > mostPairs || o.Pairs[0].Difference == nil {
		return nil
	}
	g := textGrid{
		title: fmt.Sprintf("%s of B less %s of A, nats per token; all intervals hold together with %.0f %%", quantityWords[o.Quantity], quantityWords[o.Quantity], 100*o.Confidence),
		head:  []string{"A", "B", "difference", "interval", ""},
	}
	for _, p := range o.Pairs {
		iv := p.Difference
		verdict := "not distinguishable"
		if p.Better != nil {
			verdict = whole(printable(*p.Better)) + " is better"
		}
		g.rows = append(g.rows, []string{
			whole(printable(p.A)), whole(printable(p.B)), fmt.Sprintf("%+.5f", iv.Mean), fmt.Sprintf("%+.5f to %+.5f", iv.Low, iv.High), verdict,
		})
	}
	return []textGrid{g}
}

// taskKey is one score that several models may have.
type taskKey struct{ task, metric, filter string }

func (k taskKey) String() string {
	text := printable(k.task) + ", " + printable(k.metric)
	if k.filter != "none" {
		text += ", " + printable(k.filter)
	}
	return text
}

// taskScores returns the scores of all rows by what they are of, in the order of their first
// appearance. The tasks of a group are left out; hidden counts them.
func taskScores(o *compareObject) (keys []taskKey, scores map[taskKey]map[int]*lmeval.Score, hidden int) {
	scores = map[taskKey]map[int]*lmeval.Score{}
	seen := map[string]bool{}
	for i := range o.Models {
		if o.Models[i].Tasks == nil {
			continue
		}
		for j := range o.Models[i].Tasks.Scores {
			s := &o.Models[i].Tasks.Scores[j]
			if s.Within != "" {
				if !seen[s.Task] {
					seen[s.Task] = true
					hidden++
				}
				continue
			}
			k := taskKey{s.Task, s.Metric, s.Filter}
			if scores[k] == nil {
				scores[k] = map[int]*lmeval.Score{}
				keys = append(keys, k)
			}
			scores[k][i] = s
		}
	}
	return keys, scores, hidden
}

// taskHead are the columns of scores.
var taskHead = []string{"score", "recovery", "right→wrong", "wrong→right", "p"}

// taskGrids have the scores of each task.
func taskGrids(o *compareObject) []textGrid {
	keys, scores, _ := taskScores(o)
	var out []textGrid
	for _, k := range keys {
		g := textGrid{title: k.String(), head: append([]string{"model"}, taskHead...)}
		for i := range o.Models {
			if s := scores[k][i]; s != nil {
				g.rows = append(g.rows, append([]string{rowName(&o.Models[i])}, scoreCells(s)...))
			}
		}
		out = append(out, g)
	}
	return out
}

// scoreCells are the cells of taskHead.
func scoreCells(s *lmeval.Score) []string {
	cells := []string{fmt.Sprintf("%.4f", s.Value), "-", "-", "-", "-"}
	if s.StdErr != nil {
		cells[0] = plusMinus("%.4f", s.Value, *s.StdErr)
	}
	if s.Recovery != nil {
		cells[1] = fmt.Sprintf("%.2f %%", *s.Recovery)
	}
	if f := s.Flips; f != nil {
		cells[2], cells[3] = fmt.Sprintf("%d of %d", f.Worse, f.Items), fmt.Sprint(f.Better)
		cells[4] = fmt.Sprintf("%.3f", f.PValue)
	}
	return cells
}

// conclusions are what the comparison says, as a label and a text. The best model of a size is
// named where it is another than that of the size before.
func conclusions(o *compareObject) [][2]string {
	var out [][2]string
	last := ""
	for _, b := range o.Best {
		text := names(b.Models[:1])
		if len(b.Models) > 1 {
			text += "; not distinguishable on this text: " + names(b.Models[1:])
		}
		if text != last {
			out = append(out, [2]string{"best from " + size(b.MaxBytes), text})
		}
		last = text
	}
	out = append(out, [2]string{"Pareto front", names(o.Front)})
	if len(o.Pairs) > mostPairs {
		out = append(out, [2]string{"differences", fmt.Sprintf("of %d pairs; --json has them with their intervals", len(o.Pairs))})
	}
	return append(out, taskConclusions(o)...)
}

// taskConclusions are remarks on the results of tasks.
func taskConclusions(o *compareObject) (out [][2]string) {
	keys, scores, hidden := taskScores(o)
	for _, k := range keys {
		for i := range o.Models {
			if s := scores[k][i]; s != nil && s.AtChance {
				out = append(out, [2]string{"at chance", fmt.Sprintf("%s: the reference is not shown to be better than guessing (%.4f), so that recovery says nothing", k, *s.Chance)})
				break
			}
		}
	}
	if hidden > 0 {
		out = append(out, [2]string{"tasks in groups", fmt.Sprintf("%d; --json has their scores", hidden)})
	}
	return out
}

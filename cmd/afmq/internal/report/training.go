package report

import (
	"fmt"
	"html/template"
	"slices"

	"afmq/cmd/afmq/internal/chart"
	"afmq/pkg/recovery"
)

// Training has the training curves of each directory.
type Training struct {
	Runs []TrainingRun `json:"runs"`
}

// TrainingRun has the training curves of one directory.
type TrainingRun struct {
	Dir         string        `json:"dir"`
	Ranks       []int         `json:"ranks"`
	Loss        []LossCurve   `json:"loss"`   // of each rank
	Evaluations []HeldOut     `json:"looks"`  // on the held-out text
	Mean        int           `json:"mean"`   // number of steps averaged in each point of a loss
	Window      int           `json:"window"` // number of steps averaged in each point of a smoothed loss
	Metric      string        `json:"metric"` // of the evaluations: "kl" or "perplexity"
	Plot        template.HTML `json:"-"`
}

// LossCurve is the training loss of one rank over the tokens trained on.
type LossCurve struct {
	Rank   int       `json:"rank"`
	Tokens []float64 `json:"tokens"`
	Loss   []float64 `json:"loss"` // nats per token
	// Smoothed is the running mean of the loss over TrainingRun.Window steps around each point;
	// fewer at both ends.
	Smoothed []float64 `json:"smoothed"`
}

// HeldOut is one evaluation on the held-out text.
type HeldOut struct {
	Tokens int64      `json:"tokens"`
	Values []*float64 `json:"values"` // by rank; null if that rank was not evaluated
}

// lossPoints is the largest number of points in the plot of a loss.
const lossPoints = 400

// windowShare is the share of all steps in the window of the running mean: one in so many.
const windowShare = 20

func (s *sources) training() (any, error) {
	if len(s.runs) == 0 {
		return nil, nil
	}
	d := &Training{}
	for _, r := range s.runs {
		run := trainingRun(r.metrics)
		run.Dir = show(r.dir)
		var err error
		if run.Plot, err = run.draw(); err != nil {
			return nil, err
		}
		d.Runs = append(d.Runs, *run)
	}
	return d, nil
}

func trainingRun(metrics []recovery.Metric) *TrainingRun {
	t := &TrainingRun{Metric: "perplexity", Evaluations: []HeldOut{}}
	steps, most := map[int]int{}, 0
	for _, m := range metrics {
		if !slices.Contains(t.Ranks, m.Rank) {
			t.Ranks = append(t.Ranks, m.Rank)
		}
		if m.KL != nil {
			t.Metric = "kl"
		}
		if m.Loss != nil {
			steps[m.Rank]++
			most = max(most, steps[m.Rank])
		}
	}
	slices.Sort(t.Ranks)
	t.Mean = max((most+lossPoints-1)/lossPoints, 1)
	t.Window = max(most/windowShare|1, t.Mean)
	for _, rank := range t.Ranks {
		t.Loss = append(t.Loss, lossCurve(metrics, rank, t.Mean, t.Window))
	}
	for _, m := range metrics {
		v := m.Perplexity
		if t.Metric == "kl" {
			v = m.KL
		}
		if v == nil {
			continue
		}
		at := slices.IndexFunc(t.Evaluations, func(e HeldOut) bool { return e.Tokens == m.Tokens })
		if at < 0 {
			at = len(t.Evaluations)
			t.Evaluations = append(t.Evaluations, HeldOut{m.Tokens, make([]*float64, len(t.Ranks))})
		}
		t.Evaluations[at].Values[slices.Index(t.Ranks, m.Rank)] = v
	}
	slices.SortFunc(t.Evaluations, func(a, b HeldOut) int { return int(min(max(a.Tokens-b.Tokens, -1), 1)) })
	return t
}

// lossCurve returns the loss of a rank. Each point is the mean over some steps; the smoothed loss
// is the mean over a window of steps centered on them.
func lossCurve(metrics []recovery.Metric, rank, mean, window int) LossCurve {
	l := LossCurve{Rank: rank, Tokens: []float64{}, Loss: []float64{}, Smoothed: []float64{}}
	var tokens, loss []float64 // by step
	for _, m := range metrics {
		if m.Rank == rank && m.Loss != nil {
			tokens, loss = append(tokens, float64(m.Tokens)), append(loss, *m.Loss)
		}
	}
	for from := 0; from < len(loss); from += mean {
		to := min(from+mean, len(loss))
		l.Tokens = append(l.Tokens, average(tokens[from:to]))
		l.Loss = append(l.Loss, average(loss[from:to]))
		more := max(window-(to-from), 0) // steps of the window outside of the point
		l.Smoothed = append(l.Smoothed, average(loss[max(from-more/2, 0):min(to+(more+1)/2, len(loss))]))
	}
	return l
}

func average(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// Smooth reports whether the smoothed loss differs from the loss.
func (t *TrainingRun) Smooth() bool { return t.Window > t.Mean }

// draw plots the loss, faint, below the smoothed loss and the evaluations on held-out text.
func (t *TrainingRun) draw() (template.HTML, error) {
	c := chart.Chart{
		Title: "Training loss and evaluations on held-out text",
		X:     chart.Axis{Label: "tokens trained on", Zero: true}, Y: chart.Axis{Label: "nats per token"},
	}
	line := func(s chart.Series, x, y []float64) {
		for i := range y {
			s.Points = append(s.Points, chart.Point{X: x[i], Y: y[i]})
		}
		if s.Line = true; len(y) > 0 {
			c.Series = append(c.Series, s)
		}
	}
	if t.Smooth() {
		for i, l := range t.Loss {
			line(chart.Series{Color: i % colors, Faint: true}, l.Tokens, l.Loss)
		}
	}
	for i, l := range t.Loss {
		line(chart.Series{Name: fmt.Sprintf("rank %d, training loss", l.Rank), Color: i % colors}, l.Tokens, l.Smoothed)
		if t.Metric != "kl" {
			continue // the axis has nats per token; a perplexity has another unit
		}
		held := chart.Series{Name: fmt.Sprintf("rank %d, KL on held-out text", l.Rank), Color: i % colors, Line: true, Dashed: true, Marks: true}
		for _, e := range t.Evaluations {
			if v := e.Values[i]; v != nil {
				held.Points = append(held.Points, chart.Point{X: float64(e.Tokens), Y: *v, Note: fmt.Sprintf("rank %d after %d tokens: KL %s", l.Rank, e.Tokens, nats(*v))})
			}
		}
		if len(held.Points) > 0 {
			c.Series = append(c.Series, held)
		}
	}
	if len(c.Series) == 0 {
		return "", nil
	}
	c.Y.Log = chart.NeedsLog(c.Series)
	return c.HTML()
}

package report

import (
	"fmt"
	"html/template"
	"slices"
	"sort"

	"afmq/cmd/afmq/internal/chart"
	"afmq/pkg/recovery"
)

// Recovery is what adapters win back, by rank; a table for each directory, since the text
// that was held out may differ.
type Recovery struct {
	Runs []RecoveryRun `json:"runs"`
}

// RecoveryRun is one directory.
type RecoveryRun struct {
	Dir      string                   `json:"dir"`
	Held     int                      `json:"validation_tokens"`
	Steps    int64                    `json:"steps"`
	Adapters []recovery.AdapterResult `json:"adapters"` // by rank
	Plot     template.HTML            `json:"-"`        // with more than one rank
}

// Teacher reports whether there are divergences.
func (r *RecoveryRun) Teacher() bool { return r.Adapters[0].KLAfter != nil }

func (s *sources) recovery() (any, error) {
	if len(s.runs) == 0 {
		return nil, nil
	}
	d := &Recovery{}
	for _, r := range s.runs {
		run := RecoveryRun{Dir: show(r.dir), Held: r.record.ValidationTokens, Steps: r.record.Steps}
		for _, a := range r.record.Adapters {
			a.Path, a.Last = show(a.Path), show(a.Last)
			run.Adapters = append(run.Adapters, a)
		}
		sort.Slice(run.Adapters, func(i, j int) bool { return run.Adapters[i].Rank < run.Adapters[j].Rank })
		var err error
		if run.Plot, err = run.draw(); err != nil {
			return nil, err
		}
		d.Runs = append(d.Runs, run)
	}
	return d, nil
}

// draw shows what each rank leaves, of the divergence or, without a teacher, the
// perplexity.
func (r *RecoveryRun) draw() (template.HTML, error) {
	if len(r.Adapters) < 2 {
		return "", nil
	}
	c := chart.Chart{
		Title: "What is left with an adapter of each rank", X: chart.Axis{Label: "rank", Log: true},
		Y: chart.Axis{Label: "KL to the teacher on held-out text, nats per token", Zero: true},
	}
	before := r.Adapters[0].PerplexityBefore
	if r.Teacher() {
		before = *r.Adapters[0].KLBefore
	} else {
		c.Y.Label, c.Y.Zero = "perplexity on held-out text", false
	}
	c.Rules = []chart.Rule{{Y: before, Label: "without adapter"}}
	initial := chart.Series{Name: "as initialized", Color: 1, Line: true, Marks: true, Dashed: true, Hollow: true}
	trained := chart.Series{Name: "trained", Color: 0, Line: true, Marks: true}
	for _, a := range r.Adapters {
		x, y0, y1 := float64(a.Rank), a.PerplexityInit, a.PerplexityAfter
		if r.Teacher() && a.KLAfter != nil {
			y0, y1 = *a.KLInit, *a.KLAfter
		}
		c.X.Ticks = append(c.X.Ticks, chart.Tick{At: x, Label: fmt.Sprint(a.Rank)})
		initial.Points = append(initial.Points, chart.Point{X: x, Y: y0, Note: fmt.Sprintf("rank %d as initialized: %.5g", a.Rank, y0)})
		trained.Points = append(trained.Points, chart.Point{X: x, Y: y1, Note: fmt.Sprintf("rank %d trained: %.5g", a.Rank, y1)})
	}
	c.Series = []chart.Series{trained, initial}
	return c.HTML()
}

// Training is the loss over the tokens trained on, for each directory.
type Training struct {
	Runs []TrainingRun `json:"runs"`
}

// TrainingRun is one directory.
type TrainingRun struct {
	Dir    string        `json:"dir"`
	Ranks  []int         `json:"ranks"`
	Loss   []LossCurve   `json:"loss"`   // of each rank
	Looks  []Look        `json:"looks"`  // at the held-out text
	Mean   int           `json:"mean"`   // steps that each point of a loss is the mean of
	Metric string        `json:"metric"` // of the looks: "kl" or "perplexity"
	Plot   template.HTML `json:"-"`
}

// LossCurve is the training loss of one rank.
type LossCurve struct {
	Rank   int       `json:"rank"`
	Tokens []float64 `json:"tokens"`
	Loss   []float64 `json:"loss"` // nats per token
}

// Look is one look at the held-out text.
type Look struct {
	Tokens int64      `json:"tokens"`
	Values []*float64 `json:"values"` // by rank; null where that rank was not looked at
}

// lossPoints is how many points a loss is drawn with at most.
const lossPoints = 160

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
	t := &TrainingRun{Metric: "perplexity", Looks: []Look{}}
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
	for _, rank := range t.Ranks {
		t.Loss = append(t.Loss, lossCurve(metrics, rank, t.Mean))
	}
	for _, m := range metrics {
		v := m.Perplexity
		if t.Metric == "kl" {
			v = m.KL
		}
		if v == nil {
			continue
		}
		at := slices.IndexFunc(t.Looks, func(l Look) bool { return l.Tokens == m.Tokens })
		if at < 0 {
			at = len(t.Looks)
			t.Looks = append(t.Looks, Look{m.Tokens, make([]*float64, len(t.Ranks))})
		}
		t.Looks[at].Values[slices.Index(t.Ranks, m.Rank)] = v
	}
	slices.SortFunc(t.Looks, func(a, b Look) int { return int(min(max(a.Tokens-b.Tokens, -1), 1)) })
	return t
}

// lossCurve returns the loss of a rank, each point the mean of some steps.
func lossCurve(metrics []recovery.Metric, rank, mean int) LossCurve {
	l := LossCurve{Rank: rank, Tokens: []float64{}, Loss: []float64{}}
	n, tokens, loss := 0, 0.0, 0.0
	flush := func() {
		if n > 0 {
			l.Tokens, l.Loss = append(l.Tokens, tokens/float64(n)), append(l.Loss, loss/float64(n))
		}
		n, tokens, loss = 0, 0, 0
	}
	for _, m := range metrics {
		if m.Rank != rank || m.Loss == nil {
			continue
		}
		n, tokens, loss = n+1, tokens+float64(m.Tokens), loss+*m.Loss
		if n == mean {
			flush()
		}
	}
	flush()
	return l
}

func (t *TrainingRun) draw() (template.HTML, error) {
	c := chart.Chart{
		Title: "Loss and held-out text over the tokens trained on",
		X:     chart.Axis{Label: "tokens trained on"}, Y: chart.Axis{Label: "nats per token", Log: true},
	}
	drawn := false
	for i, l := range t.Loss {
		s := chart.Series{Name: fmt.Sprintf("rank %d, loss", l.Rank), Color: i % colors, Line: true}
		for j := range l.Loss {
			s.Points = append(s.Points, chart.Point{X: l.Tokens[j], Y: l.Loss[j]})
			drawn = drawn || l.Loss[j] > 0
		}
		if len(s.Points) > 0 {
			c.Series = append(c.Series, s)
		}
		if t.Metric != "kl" {
			continue // a perplexity has no place on the axis of a loss
		}
		held := chart.Series{Name: fmt.Sprintf("rank %d, KL on held-out text", l.Rank), Color: i % colors, Line: true, Dashed: true, Marks: true}
		for _, look := range t.Looks {
			if v := look.Values[i]; v != nil {
				held.Points = append(held.Points, chart.Point{X: float64(look.Tokens), Y: *v, Note: fmt.Sprintf("rank %d after %d tokens: KL %s", l.Rank, look.Tokens, nats(*v))})
				drawn = drawn || *v > 0
			}
		}
		if len(held.Points) > 0 {
			c.Series = append(c.Series, held)
		}
	}
	if !drawn {
		return "", nil
	}
	return c.HTML()
}

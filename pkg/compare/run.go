package compare

import (
	"context"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/gate"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
)

// Run scores a text with every model and compares the candidates. With a reference all models are
// in memory, and the reference runs once; see Options.OneAtATime. All candidates and the reference
// must have one tokenizer. The figures of a row have the bits of an evaluation of its own
// ([eval.Run]), times aside. Artifacts are verified as they are loaded.
//
// Errors of kind [fault.Input] are about a file: those of [eval.Run] and [lmeval.Read], results of
// runs that cannot be compared, an adapter of none of the models. Errors of kind [fault.Usage] are
// about the options.
func Run(ctx context.Context, opts Options) (*Result, error) {
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	opts.Pool = pool
	if err := opts.resolve(); err != nil {
		return nil, err
	}
	r := &runner{opts: opts, out: &Result{Compute: opts.Arithmetic.String()}}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	r.opts.Progress = progress.Begin(opts.Progress, opts.Stages()...)
	if err := r.score(ctx); err != nil {
		return nil, err
	}
	return r.out, r.finish()
}

// runner is one call of Run.
type runner struct {
	opts       Options
	out        *Result
	candidates []*candidate
	tasks      map[string]*Tasks // by row
	reference  *opened           // nil without one
	first      *firstModel       // that the others must agree with; nil before the first
	repeats    error             // the text repeats itself; nil if it does not
}

// candidate is a model to compare, with its adapters.
type candidate struct {
	Model
	adapters []eval.Adapter
	bpw      artifact.BitsPerWeight
	weights  int64 // of the model
}

// firstModel has what the others must agree with, without the weights.
type firstModel struct {
	path   string
	model  *infer.Model
	corpus *eval.Corpus
}

// opened is a model in memory with its identity.
type opened struct {
	*eval.Inputs
	path     string
	identity eval.Identity
	adapters []eval.AdapterIdentity
}

// prepare makes all checks that need no weights.
func (r *runner) prepare() error {
	o := &r.opts
	all := o.Models
	if o.Reference != nil {
		all = append([]Model{*o.Reference}, all...)
	}
	positions := 0
	for i, m := range all {
		c := &candidate{Model: m}
		n, err := positionsOf(m.Path)
		if err == nil {
			c.bpw, c.weights, err = artifact.Measure(m.Path)
		}
		if err != nil {
			return err
		}
		if i == 0 || n < positions {
			positions = n
		}
		r.candidates = append(r.candidates, c)
	}
	if o.Ctx == 0 {
		o.Ctx = min(eval.DefaultCtx, positions)
	}
	if err := r.bind(); err != nil {
		return err
	}
	var names []string
	for _, c := range r.candidates {
		names = append(names, c.Name)
		for _, a := range c.adapters {
			names = append(names, c.Name+"+"+a.Name)
		}
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return fault.Usagef("two rows are called %q", name).WithHint("give models and adapters names of their own: NAME=PATH")
		}
	}
	var err error
	r.tasks, r.out.Warnings, err = readTasks(o, names)
	return err
}

// positionsOf returns the longest context of a model.
func positionsOf(path string) (int, error) {
	if ggufmodel.Is(path) {
		g, err := ggufmodel.Open(path)
		if err != nil {
			return 0, err
		}
		defer g.Close()
		return g.Config.MaxPositions, nil
	}
	d, err := artifact.Describe(path)
	if err != nil {
		return 0, err
	}
	return d.Positions, nil
}

// score scores the text with every model and makes the rows.
func (r *runner) score(ctx context.Context) error {
	o, left := &r.opts, r.candidates
	var rows []Row
	var err error
	if o.Reference != nil {
		if r.reference, err = r.open(ctx, left[0]); err != nil {
			return err
		}
		left = left[1:]
	}
	if o.together() {
		var models []*opened
		for _, c := range left {
			m, err := r.open(ctx, c)
			if err != nil {
				return err
			}
			models = append(models, m)
		}
		if rows, err = r.evaluate(ctx, left, models); err != nil {
			return err
		}
	} else {
		for _, c := range left {
			m, err := r.open(ctx, c)
			if err != nil {
				return err
			}
			more, err := r.evaluate(ctx, []*candidate{c}, []*opened{m})
			if err != nil {
				return err
			}
			rows = append(rows, more...)
		}
	}
	r.out.Models = append(r.out.Models, rows...)
	return nil
}

// open loads a model and its adapters and checks that it has the tokens of the others.
func (r *runner) open(ctx context.Context, c *candidate) (*opened, error) {
	o := &r.opts
	opts := eval.Options{
		Model: c.Path, Data: o.Data, Adapters: c.adapters, AllowUnbound: o.AllowUnbound, AllowOverlap: o.AllowOverlap,
		SkipVerify: o.SkipVerify, Pool: o.Pool, Progress: o.Progress,
	}
	in, err := eval.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	m := &opened{Inputs: in, path: c.Path}
	if err := r.agree(m); err != nil {
		return nil, err
	}
	for _, w := range in.Warnings {
		if !slices.Contains(r.out.Warnings, w) {
			r.out.Warnings = append(r.out.Warnings, w)
		}
	}
	m.identity, m.adapters, err = in.Identify(ctx, opts)
	return m, err
}

// agree returns an error unless a model has the tokens of the first one. It keeps one copy of the
// text.
func (r *runner) agree(m *opened) error {
	if r.first == nil {
		light := infer.Model{Dir: m.Model.Dir, Tokenizer: m.Model.Tokenizer, Config: m.Model.Config}
		r.first = &firstModel{m.path, &light, m.Corpus}
		r.repeats = gate.CheckRepetition(r.opts.Data, m.Corpus.Repetition())
		return nil
	}
	first := r.first
	if m.Corpus.SHA256 != first.corpus.SHA256 {
		return infile.Changed(r.opts.Data)
	}
	if !ggufmodel.Is(m.path) && !ggufmodel.Is(first.path) {
		if err := model.SameTokenizer(first.path, m.path); err != nil {
			return err
		}
	}
	if err := eval.SameTokens(first.model, first.corpus, m.Model, m.Corpus); err != nil {
		return err
	}
	m.Corpus = first.corpus
	return nil
}

// evaluate scores the text with models in memory and returns their rows. The first call adds the row
// of the reference to the result.
func (r *runner) evaluate(ctx context.Context, candidates []*candidate, models []*opened) ([]Row, error) {
	o := &r.opts
	var all []*infer.Model
	for _, m := range models {
		all = append(all, m.Model)
		for _, v := range m.Variants {
			all = append(all, v.Model)
		}
	}
	opts := eval.ScoreOptions{Protocol: o.Protocol, Ctx: o.Ctx, Stride: o.Stride, Pool: o.Pool.With(o.Arithmetic), Progress: o.Progress}
	if r.reference != nil {
		opts.Reference = r.reference.Model
	}
	results, err := eval.ScoreAll(ctx, all, r.first.corpus, opts)
	if err != nil {
		return nil, err
	}
	if r.out.Tokens == 0 {
		r.begin(results[0])
	}
	var rows []Row
	for i, m := range models {
		n := 1 + len(m.Variants)
		more, err := r.rows(candidates[i], m, results[:n])
		if err != nil {
			return nil, err
		}
		rows, results = append(rows, more...), results[n:]
	}
	return rows, nil
}

// begin takes from the first result what all have in common.
func (r *runner) begin(e *eval.Result) {
	out := r.out
	out.DataSHA256 = r.first.corpus.SHA256
	out.Protocol, out.Ctx, out.Stride, out.Tokens, out.Windows = e.Protocol, e.Ctx, e.Stride, e.Tokens, len(e.Windows)
	if w := e.NoiseWarning(); w != "" {
		out.Warnings = append(out.Warnings, w)
	}
	if r.reference == nil {
		return
	}
	c := r.candidates[0]
	row := r.row(c, r.reference, e.Comparison.Reference)
	row.Standing = IsReference
	out.Reference, out.Models = &c.Name, append(out.Models, row)
}

// rows returns the rows of a model and its adapters.
func (r *runner) rows(c *candidate, m *opened, results []*eval.Result) ([]Row, error) {
	var rows []Row
	for i, e := range results {
		row := r.row(c, m, e)
		if i > 0 {
			row.with(m.Variants[i-1].Adapter, m.adapters[i-1], c.weights)
			row.Tasks = r.tasks[row.Name]
		}
		if d := e.Comparison; d != nil {
			kl, rise, err := gate.ComparisonIntervals(e)
			if err != nil {
				return nil, err
			}
			row.Divergence = &Divergence{
				KL: d.KL, KLInterval: kl, LossRise: rise, SameTop1: d.SameTop1, DeltaPRMS: d.DeltaPRMS, PerplexityRatio: d.PerplexityRatio,
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// row returns the row of a model without an adapter.
func (r *runner) row(c *candidate, m *opened, e *eval.Result) Row {
	return Row{
		Name: c.Name, Path: c.Path, Identity: m.identity.Model, Tokenizer: m.identity.Tokenizer,
		Bytes: m.identity.Model.Bytes, BPW: c.bpw,
		NatsPerToken: e.NatsPerToken, Perplexity: e.Perplexity, PerplexitySE: e.PerplexitySE, BitsPerByte: e.BitsPerByte,
		Seconds: e.OwnSeconds, Speed: e.OwnTokensPerSecond, Overlap: m.Overlap, Tasks: r.tasks[c.Name],
		DominatedBy: []string{}, NotShownBetterThan: []string{}, windows: e.Windows,
	}
}

// with makes the row that of the model with an adapter.
func (row *Row) with(a eval.Adapter, id eval.AdapterIdentity, weights int64) {
	row.Name += "+" + a.Name
	row.Adapter = &Adapter{Name: a.Name, Path: a.Dir, Identity: id}
	row.Bytes += id.Bytes
	bits := row.BPW.Model + 8*float64(id.TensorBytes)/float64(weights)
	row.BPW.WithAdapter = &bits
}

// finish ranks the candidates.
func (r *runner) finish() error {
	out := r.out
	paired := r.repeats == nil && out.Windows >= MinWindows
	switch {
	case len(out.candidates()) < 2:
	case r.repeats != nil:
		out.Warnings = append(out.Warnings, "no two models are told apart: "+r.repeats.Error())
	case !paired:
		out.Warnings = append(out.Warnings, tooShort(r.opts.Data, out.Windows))
	}
	return out.rank(paired)
}

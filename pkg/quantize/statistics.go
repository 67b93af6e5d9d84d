package quantize

import (
	"context"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/gptq"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/sensitivity"
)

// statistics serves the statistics of the inputs of modules, in the order of the file.
type statistics struct {
	pool  *compute.Pool
	stats *sensitivity.Stats
	runs  map[string]int // columns that stay together, by input; see inputOf

	input  string       // that factor belongs to
	whole  *gptq.Factor // nil if it cannot be factored
	reason error        // why factor is nil
}

// factor returns the statistics of the input of a matrix, or nil: without a reason if its errors are
// not compensated.
func (s *statistics) factor(ctx context.Context, it *item, g grid.Grid) (f *gptq.Factor, reason, err error) {
	spec := it.Spec
	tied := spec.Role == model.Embedding
	if tied && !s.stats.TiesEmbedding() {
		return nil, nil, nil
	}
	input := inputOf(spec)
	if input == s.input {
		return s.whole, s.reason, nil
	}
	s.input, s.whole, s.reason = "", nil, nil
	n, run := spec.Shape[1], max(s.runs[input], 1)
	h, err := s.stats.Hessian(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	if tied {
		addTied(h, n)
		run = g.Run()
	}
	s.whole, s.reason = gptq.NewFactor(s.pool, h, n, gptq.Damping(n, s.stats.Calibration.Tokens), run)
	s.input = input
	return s.whole, s.reason, ctx.Err()
}

// openStats opens the statistics and checks that they are of this model and form.
func (r *setup) openStats() (err error) {
	o := &r.opts
	if r.stats, err = sensitivity.OpenStats(o.Stats); err != nil {
		return err
	}
	if !o.compensates() && o.Request == nil {
		return fault.Usagef("without error compensation and a budget, statistics have no use").WithHint("omit them")
	}
	s := r.stats.Scores
	if s.Config != string(r.src.RawConfig) {
		return fault.Inputf(o.Stats, "the statistics are of a model with another %s than %s", artifact.ConfigFile, o.Model).
			WithHint("collect them again with afmq stats %s", o.Model)
	}
	r.text = &sensitivity.Calibration{Record: *r.stats.Calibration}
	return nil
}

// planFromStats makes the plan of a request from the scores of the statistics.
func (r *setup) planFromStats() (err error) {
	o, s := &r.opts, r.stats.Scores
	if len(s.Forms) == 0 && (s.GroupRows != o.GroupRows || s.RowScale != !o.NoRowScale) {
		return fault.Usagef("the scores of %s are of palettes with %d rows to a table and row scales %v, not %d and %v", o.Stats, s.GroupRows, s.RowScale, o.GroupRows, !o.NoRowScale).
			WithHint("give afmq stats the same --group-rows and --row-scale")
	}
	o.Method = s.Method
	if r := o.Request; len(r.Bits) == 0 && len(r.Forms) == 0 {
		r.Bits, r.Forms = slices.Clone(s.Bits), slices.Clone(s.Forms)
	}
	if r.made, err = sensitivity.MakePlan(s, *o.Request); err != nil {
		return err
	}
	if r.widths, err = r.made.Widths(o.Out, r.shape); err != nil {
		return err
	}
	r.warn = append(r.warn, r.made.Notes...)
	return nil
}

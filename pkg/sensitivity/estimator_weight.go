package sensitivity

import "context"

// weightEstimator computes [Weight]. A unit of work is a module.
type weightEstimator struct{ *scorer }

func (e *weightEstimator) units() int { return len(e.modules) }

func (e *weightEstimator) unitName() string { return "modules" }

func (e *weightEstimator) prepare(context.Context) error { return nil }

func (e *weightEstimator) work(unit int) int64 { return e.palettizeWork(&e.modules[unit]) }

func (e *weightEstimator) run(ctx context.Context, unit int) (out []Contribution, err error) {
	for o, bits := range e.bits {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		_, report, err := e.palettize(&e.modules[unit], bits)
		if err != nil {
			return nil, err
		}
		out = append(out, Contribution{unit, o, report.SquaredError})
		e.progress.Advance(e.widthWork(&e.modules[unit], bits))
	}
	return out, nil
}

package sensitivity

import "context"

// weightEstimator computes [Weight]. A unit of work is a module.
type weightEstimator struct{ *scorer }

func (e *weightEstimator) units() int { return len(e.modules) }

func (e *weightEstimator) unitName() string { return "modules" }

func (e *weightEstimator) prepare(context.Context) error { return nil }

func (e *weightEstimator) work(unit int) int64 { return e.quantizeWork(&e.modules[unit]) }

func (e *weightEstimator) run(ctx context.Context, unit int) (out []Contribution, err error) {
	for o := range e.options(&e.modules[unit]) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		_, squares, err := e.quantize(&e.modules[unit], o)
		if err != nil {
			return nil, err
		}
		out = append(out, Contribution{unit, o, squares})
		e.progress.Advance(e.widthWork(&e.modules[unit], o))
	}
	return out, nil
}

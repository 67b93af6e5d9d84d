package sensitivity

import (
	"afmq/pkg/artifact"
	"afmq/pkg/export/target"
	"afmq/pkg/model"
)

// exportTarget returns the target with this name, nil for an empty one. An unknown name is an
// error of kind fault.Usage.
func exportTarget(name string) (*target.Target, error) {
	if name == "" {
		return nil, nil
	}
	return target.Named(name)
}

// candidates returns the widths to choose from: those of the options, or all scored ones that the
// export target has. Widths that it does not have are an error of kind fault.Infeasible.
func candidates(scored []int, opts PlanOptions) ([]int, error) {
	exports, err := exportTarget(opts.ExportTarget)
	if err != nil {
		return nil, err
	}
	switch {
	case len(opts.Bits) == 0 && exports == nil:
		return scored, nil
	case exports == nil:
		return opts.Bits, nil
	case len(opts.Bits) > 0:
		return opts.Bits, exports.CheckWidths(opts.Bits)
	}
	if out := exports.Allowed(scored); len(out) > 0 {
		return out, nil
	}
	return nil, exports.CheckWidths(scored)
}

// CheckTarget checks an artifact with these widths against the rules of an export target. An
// error is of kind fault.Infeasible; file is what it is about, and may be empty.
func CheckTarget(t *target.Target, file string, shape *Shape, st Storage, widths map[string]Width) error {
	return t.Check(file, shape.Config, st.GroupRows, func(spec model.TensorSpec) (artifact.Form, int) {
		w, ok := widths[spec.Module()]
		if !ok {
			return artifact.Plain, 0
		}
		return w.Form, w.Bits
	})
}

// allowed returns the widths that the export target has; all without one.
func (p *planner) allowed(widths []int) []int {
	if p.target == nil {
		return widths
	}
	return p.target.Allowed(widths)
}

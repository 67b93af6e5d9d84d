package jinja

import "slices"

// args are the values of a call's arguments.
type args struct {
	list   []Value
	names  []string
	values []Value
}

type missingType struct{}

// missing stands for a parameter without an argument.
var missing = missingType{}

// bind orders the arguments of the function fn by its parameters.
func (a args) bind(fn string, params ...string) ([]Value, error) {
	if len(a.list) > len(params) {
		return nil, failf("%s takes at most %d arguments, got %d", fn, len(params), len(a.list))
	}
	out := make([]Value, len(params))
	for i := range out {
		out[i] = missing
	}
	copy(out, a.list)
next:
	for i, name := range a.names {
		for j, p := range params {
			if p != name {
				continue
			}
			if out[j] != missing {
				return nil, failf("%s got several values for the argument %q", fn, name)
			}
			out[j] = a.values[i]
			continue next
		}
		return nil, failf("%s has no argument %q", fn, name)
	}
	return out, nil
}

// bindText is bind for functions whose arguments are all strings.
func (a args) bindText(fn string, params ...string) ([]string, error) {
	values, err := a.bind(fn, params...)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(values))
	for i, v := range values {
		s, ok := text(v)
		if !ok {
			return nil, failf("%s: the argument %q is missing or not a str", fn, params[i])
		}
		out[i] = s
	}
	return out, nil
}

func (r *run) args(x *argsE, s *scope) (args, error) {
	list, err := r.evalAll(x.list, s)
	if err != nil {
		return args{}, err
	}
	values, err := r.evalAll(x.values, s)
	if err != nil {
		return args{}, err
	}
	a := args{list, x.names, values}
	if x.spread != nil {
		v, err := r.eval(x.spread, s)
		if err != nil {
			return a, err
		}
		items, err := r.items(v)
		if err != nil {
			return a, err
		}
		if a.list, err = r.concat(a.list, items); err != nil {
			return a, err
		}
	}
	if x.dict != nil {
		return a, r.spreadDict(x.dict, &a, s)
	}
	return a, nil
}

// spreadDict adds the keyword arguments of **x.
func (r *run) spreadDict(x expr, a *args, s *scope) error {
	v, err := r.eval(x, s)
	if err != nil {
		return err
	}
	d, ok := v.(*Dict)
	if !ok {
		return failf("argument after ** must be a mapping, not %s", typeName(v))
	}
	if err := r.allocItems(2 * d.Len()); err != nil {
		return err
	}
	a.names = slices.Clone(a.names)
	for i, k := range d.keys {
		name, ok := k.(string)
		if !ok {
			return failf("keywords must be strings")
		}
		if slices.Contains(a.names, name) {
			return failf("got multiple values for keyword argument %q", name)
		}
		a.names = append(a.names, name)
		a.values = append(a.values, d.values[i])
	}
	return nil
}

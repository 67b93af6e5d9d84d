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

// call evaluates a call; caller is the body of a call block, or nil.
func (r *run) call(x *callE, s *scope, caller *macro) (Value, error) {
	fn, err := r.eval(x.fn, s)
	if err != nil {
		return nil, err
	}
	a, err := r.args(&x.argsE, s)
	if err != nil {
		return nil, err
	}
	if caller != nil {
		a.names = append(a.names[:len(a.names):len(a.names)], "caller")
		a.values = append(a.values, caller)
	}
	v, err := r.callValue(fn, a)
	return v, at(x.at(), err)
}

func (r *run) callValue(fn Value, a args) (Value, error) {
	switch fn := fn.(type) {
	case *function:
		for _, v := range a.list {
			if err := r.scan(v); err != nil {
				return nil, err
			}
		}
		return fn.call(r, a)
	case *macro:
		return r.callMacro(fn, a)
	case *Undefined:
		return nil, failf("%s", fn.Msg)
	}
	return nil, failf("%q object is not callable", typeName(fn))
}

func (r *run) callMacro(m *macro, a args) (Value, error) {
	r.calls++
	defer func() { r.calls-- }()
	if r.calls > maxCalls {
		return nil, &Error{Limit, 0, "macros call each other too deep"}
	}
	s := newScope(m.scope)
	given := map[string]Value{}
	for i, name := range a.names {
		given[name] = a.values[i]
	}
	for i, name := range m.params {
		v, ok := given[name]
		delete(given, name)
		if i < len(a.list) {
			if ok {
				return nil, failf("macro %q got several values for the argument %q", m.name, name)
			}
			v, ok = a.list[i], true
		}
		if d := i - (len(m.params) - len(m.defaults)); !ok && d >= 0 {
			var err error
			if v, err = r.eval(m.defaults[d], s); err != nil {
				return nil, err
			}
		} else if !ok {
			v = &Undefined{"parameter " + quote(name) + " was not provided"}
		}
		s.vars[name] = v
	}
	if err := r.ownParams(m, a, given, s); err != nil {
		return nil, err
	}
	return r.capture(func() error { return r.exec(m.body, s) })
}

// ownParams binds the variables caller, kwargs and varargs of a macro, if it names them; given
// are the keyword arguments that are not parameters.
func (r *run) ownParams(m *macro, a args, given map[string]Value, s *scope) error {
	if m.caller {
		s.vars["caller"] = &Undefined{"No caller defined"}
		if caller, ok := given["caller"]; ok {
			s.vars["caller"] = caller
			delete(given, "caller")
		}
	}
	if m.kwargs {
		d := NewDict()
		for _, name := range a.names {
			if v, ok := given[name]; ok {
				d.Set(name, v)
			}
		}
		s.vars["kwargs"] = d
	} else if len(given) > 0 {
		return failf("macro %q takes no such keyword argument", m.name)
	}
	var extra []Value
	if len(a.list) > len(m.params) {
		extra = a.list[len(m.params):]
	}
	if m.varargs {
		s.vars["varargs"] = &Tuple{Items: extra}
	} else if extra != nil {
		return failf("macro %q takes not more than %d argument(s)", m.name, len(m.params))
	}
	return nil
}

package jinja

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

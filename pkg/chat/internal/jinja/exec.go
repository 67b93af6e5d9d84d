package jinja

func (r *run) exec(body []stmt, s *scope) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	for _, st := range body {
		if err := r.statement(st, s); err != nil {
			return at(st.at(), err)
		}
	}
	return nil
}

func (r *run) statement(st stmt, s *scope) error {
	if err := r.step(1); err != nil {
		return err
	}
	switch st := st.(type) {
	case *dataS:
		return r.out.add(st.text)
	case *printS:
		v, err := r.eval(st.x, s)
		if err != nil {
			return err
		}
		text, err := r.str(v)
		if err != nil {
			return err
		}
		return r.out.add(text)
	case *ifS:
		for i, test := range st.tests {
			v, err := r.eval(test, s)
			if err != nil {
				return err
			}
			if truth(v) {
				return r.exec(st.bodies[i], s)
			}
		}
		return r.exec(st.otherwise, s)
	case *forS:
		return r.forLoop(st, s)
	case *setS:
		v, err := r.eval(st.value, s)
		if err != nil {
			return err
		}
		return r.assign(st.target, v, s)
	case *setBlockS:
		text, err := r.capture(func() error { return r.exec(st.body, newScope(s)) })
		if err != nil {
			return err
		}
		v := Value(text)
		if st.filter != nil {
			if v, err = r.filter(st.filter, v, s); err != nil {
				return err
			}
		}
		return r.assign(st.target, v, s)
	case *macroS:
		s.vars[st.name] = &macro{st.macroDef, s}
		return nil
	case *callS:
		caller := &macro{st.caller, s}
		v, err := r.call(st.call, s, caller)
		if err != nil {
			return err
		}
		text, err := r.str(v)
		if err != nil {
			return err
		}
		return r.out.add(text)
	case *filterS:
		text, err := r.capture(func() error { return r.exec(st.body, newScope(s)) })
		if err != nil {
			return err
		}
		v, err := r.filter(st.filter, text, s)
		if err != nil {
			return err
		}
		if text, err = r.str(v); err != nil {
			return err
		}
		return r.out.add(text)
	case *withS:
		inner := newScope(s)
		for i, target := range st.targets {
			v, err := r.eval(st.values[i], s)
			if err != nil {
				return err
			}
			if err := r.assign(target, v, inner); err != nil {
				return err
			}
		}
		return r.exec(st.body, inner)
	case *generationS:
		return r.exec(st.body, newScope(s))
	case *jumpS:
		return st.err
	}
	return refusef("this statement")
}

// assign binds a target in the scope s.
func (r *run) assign(target expr, v Value, s *scope) error {
	switch target := target.(type) {
	case *nameE:
		s.vars[target.name] = v
		return nil
	case *nsE:
		ns, ok := s.get(target.ns).(*namespace)
		if !ok {
			return failf("cannot assign attribute on non-namespace object")
		}
		if target.attr[0] == '_' {
			return failf("chat templates cannot store underscore-prefixed attributes on a namespace, but got %q", target.attr)
		}
		ns.attrs.Set(target.attr, v)
		return nil
	case *tupleE:
		items, err := r.items(v)
		if err != nil {
			return err
		}
		if len(items) != len(target.items) {
			return failf("cannot unpack %d values into %d names", len(items), len(target.items))
		}
		for i, t := range target.items {
			if err := r.assign(t, items[i], s); err != nil {
				return err
			}
		}
		return nil
	}
	return failf("cannot assign to this expression")
}

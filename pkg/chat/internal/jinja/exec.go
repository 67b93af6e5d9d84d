package jinja

import "errors"

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

// loop is the variable of that name in a loop.
type loop struct {
	items   []Value
	i       int
	changed []Value
}

func (r *run) forLoop(st *forS, s *scope) error {
	if st.recursive {
		return refusef("a recursive loop")
	}
	v, err := r.eval(st.iter, s)
	if err != nil {
		return err
	}
	items, err := r.items(v)
	if err != nil {
		return err
	}
	if st.test != nil {
		if items, err = r.filterItems(st, items, s); err != nil {
			return err
		}
	}
	l := &loop{items: items}
	// As in jinja2, the else part runs if no iteration reached the end of the body.
	ended := false
	for i, item := range items {
		l.i = i
		inner := newScope(s)
		if err := r.assign(st.target, item, inner); err != nil {
			return err
		}
		inner.vars["loop"] = l
		err := r.exec(st.body, inner)
		if errors.Is(err, errBreak) {
			break
		}
		if err != nil && !errors.Is(err, errContinue) {
			return err
		}
		ended = ended || err == nil
	}
	if ended {
		return nil
	}
	return r.exec(st.otherwise, newScope(s))
}

func (r *run) filterItems(st *forS, items []Value, s *scope) ([]Value, error) {
	var kept []Value
	for _, item := range items {
		inner := newScope(s)
		if err := r.assign(st.target, item, inner); err != nil {
			return nil, err
		}
		v, err := r.eval(st.test, inner)
		if err != nil {
			return nil, err
		}
		if truth(v) {
			kept = append(kept, item)
		}
	}
	return kept, nil
}

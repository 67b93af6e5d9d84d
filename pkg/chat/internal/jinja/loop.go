package jinja

import "errors"

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

// attribute returns what the template reads of the loop.
func (l *loop) attribute(name string) (Value, bool) {
	n := int64(len(l.items))
	i := int64(l.i)
	switch name {
	case "index":
		return i + 1, true
	case "index0":
		return i, true
	case "revindex":
		return n - i, true
	case "revindex0":
		return n - i - 1, true
	case "first":
		return i == 0, true
	case "last":
		return i == n-1, true
	case "length":
		return n, true
	case "depth":
		return int64(1), true
	case "depth0":
		return int64(0), true
	case "previtem":
		if i == 0 {
			return &Undefined{"there is no previous item"}, true
		}
		return l.items[i-1], true
	case "nextitem":
		if i == n-1 {
			return &Undefined{"there is no next item"}, true
		}
		return l.items[i+1], true
	case "cycle":
		return &function{name, func(r *run, a args) (Value, error) {
			if len(a.list) == 0 {
				return nil, failf("no items for cycling given")
			}
			return a.list[int(i)%len(a.list)], nil
		}}, true
	case "changed":
		return &function{name, func(r *run, a args) (Value, error) {
			if l.changed != nil {
				if same, err := r.equalItems(l.changed, a.list); same || err != nil {
					return false, err
				}
			}
			l.changed = append([]Value{}, a.list...)
			return true, nil
		}}, true
	}
	return nil, false
}

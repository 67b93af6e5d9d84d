package jinja

import (
	"unicode/utf8"
)

// items returns what iterating over a value yields.
func (r *run) items(v Value) ([]Value, error) {
	if err := r.scan(v); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *List:
		v.read()
		return v.Items, nil
	case *Tuple:
		return v.Items, nil
	case *Dict:
		return v.keys, nil
	case *view:
		return v.items, nil
	case *Undefined:
		return nil, nil
	case *iterator:
		err := v.load()
		items := v.left
		v.left = nil
		return items, err
	case string:
		return r.chars(v)
	case Markup:
		return r.chars(string(v))
	case *loop:
		return nil, refusef("iterating over loop")
	}
	return nil, failf("%q object is not iterable", typeName(v))
}

func (r *run) chars(s string) ([]Value, error) {
	if err := r.allocItems(len(s)); err != nil {
		return nil, err
	}
	out := make([]Value, 0, len(s))
	for _, c := range s {
		out = append(out, string(c))
	}
	return out, nil
}

func (r *run) itemExpr(x *itemE, s *scope) (Value, error) {
	v, err := r.eval(x.x, s)
	if err != nil {
		return nil, err
	}
	if slice, ok := x.arg.(*sliceE); ok {
		return r.slice(v, slice, s)
	}
	key, err := r.eval(x.arg, s)
	if err != nil {
		return nil, err
	}
	return r.item(v, key)
}

// item is jinja2's environment.getitem: v[key], or else the attribute of that name.
func (r *run) item(v, key Value) (Value, error) {
	if u, ok := v.(*Undefined); ok {
		return nil, failf("%s", u.Msg)
	}
	if n, ok := number(key); ok {
		if item, ok, err := r.index(v, n); ok || err != nil {
			return item, err
		}
	}
	if d, ok := v.(*Dict); ok {
		switch key.(type) {
		case *Undefined, *iterator: // hashable, and never a key
		case *List, *Dict, *namespace, *view: // unhashable: undefined
		default:
			if item, found, err := r.lookup(d, key); found || err != nil {
				return item, err
			}
		}
	}
	if name, ok := text(key); ok {
		if a, found, err := r.pyAttribute(v, name); found || err != nil {
			return a, err
		}
		return noAttribute(v, name), nil
	}
	s, err := r.repr(key)
	if err != nil {
		s = "the key"
	}
	return noAttribute(v, s), err
}

func noAttribute(v Value, name string) *Undefined {
	if v == nil {
		return &Undefined{"None has no attribute " + quote(name)}
	}
	return &Undefined{"'" + typeName(v) + " object' has no attribute " + quote(name)}
}

// index returns an item of a sequence; false if v is none or n is outside of it.
func (r *run) index(v Value, n int64) (Value, bool, error) {
	if s, ok := text(v); ok {
		return r.char(s, n)
	}
	var items []Value
	switch v := v.(type) {
	case *List:
		v.read()
		items = v.Items
	case *Tuple:
		items = v.Items
	case *view:
		if v.kind != "range" {
			return nil, false, nil
		}
		items = v.items
	}
	if n < 0 {
		n += int64(len(items))
	}
	if n < 0 || n >= int64(len(items)) {
		return nil, false, nil
	}
	return items[n], true, nil
}

// char returns the nth character of s.
func (r *run) char(s string, n int64) (Value, bool, error) {
	if err := r.step(len(s) / 64); err != nil {
		return nil, false, err
	}
	if n < 0 {
		n += int64(utf8.RuneCountInString(s))
	}
	if n < 0 || n >= int64(len(s)) {
		return nil, false, nil
	}
	for _, c := range s {
		if n == 0 {
			return string(c), true, nil
		}
		n--
	}
	return nil, false, nil
}

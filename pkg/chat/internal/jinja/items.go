package jinja

import (
	"math/big"
	"slices"
	"strings"
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

// slice is Python's v[start:stop:step].
func (r *run) slice(v Value, x *sliceE, s *scope) (Value, error) {
	var parts [3]*int64
	for i, p := range []expr{x.start, x.stop, x.step} {
		if p == nil {
			continue
		}
		at, err := r.eval(p, s)
		if err != nil {
			return nil, err
		}
		n, ok := number(at)
		if _, big := at.(*big.Int); big {
			return nil, refusef("a slice beyond 64 bits")
		}
		if ok {
			parts[i] = &n
		} else if at != nil {
			return nil, failf("slice indices must be integers or None")
		}
	}
	if u, ok := v.(*Undefined); ok {
		return nil, failf("%s", u.Msg)
	}
	if text, ok := text(v); ok {
		chars := []rune(text)
		if err := r.alloc(4 * len(chars)); err != nil {
			return nil, err
		}
		chars, err := cut(chars, parts)
		if _, ok := v.(Markup); ok {
			return Markup(chars), err
		}
		return string(chars), err
	}
	if err := r.scan(v); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *List:
		v.read()
		items, err := cut(v.Items, parts)
		return &List{Items: items}, err
	case *Tuple:
		items, err := cut(v.Items, parts)
		return &Tuple{Items: items}, err
	case *view:
		if v.kind == "range" {
			return nil, refusef("a slice of a range")
		}
	}
	return nil, failf("%q object is not subscriptable by a slice", typeName(v))
}

// cut applies a slice to a sequence.
func cut[T any](s []T, parts [3]*int64) ([]T, error) {
	n, step := int64(len(s)), int64(1)
	if parts[2] != nil {
		step = *parts[2]
	}
	if step == 0 {
		return nil, failf("slice step cannot be zero")
	}
	low, high := int64(0), n // the bounds of start and stop
	if step < 0 {
		low, high = -1, n-1
	}
	clamp := func(p *int64, otherwise int64) int64 {
		if p == nil {
			return otherwise
		}
		at := *p
		if at < 0 {
			at = max(at, -n-1) + n
		}
		return min(max(at, low), high)
	}
	if step == 1 {
		from, to := clamp(parts[0], low), clamp(parts[1], high)
		return slices.Clone(s[from:max(from, to)]), nil
	}
	var out []T
	if step > 0 {
		for i, to := clamp(parts[0], low), clamp(parts[1], high); i < to; i += min(step, n) {
			out = append(out, s[i])
		}
		return out, nil
	}
	for i, to := clamp(parts[0], high), clamp(parts[1], low); i > to; i += max(step, -n) {
		out = append(out, s[i])
	}
	return out, nil
}

// join joins texts within the budget.
func (r *run) join(items []string, separator string) (string, error) {
	n := times(len(separator), len(items))
	for _, s := range items {
		n += len(s)
	}
	if err := r.alloc(n); err != nil {
		return "", err
	}
	return strings.Join(items, separator), nil
}

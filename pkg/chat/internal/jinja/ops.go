package jinja

import (
	"math/big"
	"slices"
	"strings"
)

// binary evaluates an arithmetic operator.
func (r *run) binary(op string, a, b Value) (Value, error) {
	if s, ok := a.(string); ok && op == "%" {
		return r.percent(s, b)
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*Undefined); ok {
			return nil, failf("%s", u.Msg)
		}
		if _, ok := v.(*big.Int); ok {
			return nil, refusef("arithmetic with an integer beyond 64 bits")
		}
	}
	na, aInt := number(a)
	nb, bInt := number(b)
	if aInt && bInt {
		return integers(op, na, nb)
	}
	fa, aNum := float(a)
	fb, bNum := float(b)
	if aNum && bNum {
		return floats(op, fa, fb)
	}
	switch op {
	case "+":
		return r.add(a, b)
	case "*":
		if bInt {
			return r.repeat(a, nb)
		}
		if aInt {
			return r.repeat(b, na)
		}
	}
	if _, ok := a.(Markup); ok {
		return nil, refusef("%q of Markup", op)
	}
	return nil, failf("unsupported operand type(s) for %s: %q and %q", op, typeName(a), typeName(b))
}

func (r *run) add(a, b Value) (Value, error) {
	sa, aText := text(a)
	sb, bText := text(b)
	if aText && bText {
		if err := r.alloc(len(sa) + len(sb)); err != nil {
			return nil, err
		}
		_, aMark := a.(Markup)
		_, bMark := b.(Markup)
		switch {
		case aMark && bMark:
			return Markup(sa + sb), nil
		case aMark:
			return Markup(sa + escapeHTML(sb)), nil
		case bMark:
			return Markup(escapeHTML(sa) + sb), nil
		}
		return sa + sb, nil
	}
	if la, ok := a.(*List); ok {
		if lb, ok := b.(*List); ok {
			items, err := r.concat(la.Items, lb.Items)
			la.read()
			lb.read()
			return &List{Items: items}, err
		}
	}
	if ta, ok := a.(*Tuple); ok {
		if tb, ok := b.(*Tuple); ok {
			items, err := r.concat(ta.Items, tb.Items)
			return &Tuple{Items: items}, err
		}
	}
	return nil, failf("can only concatenate like types, not %q and %q", typeName(a), typeName(b))
}

func (l *List) read() {
	if l.Watch != nil {
		l.Watch.Read = true
	}
}

func (r *run) concat(a, b []Value) ([]Value, error) {
	if err := r.allocItems(len(a) + len(b)); err != nil {
		return nil, err
	}
	return slices.Concat(a, b), nil
}

func (r *run) repeat(v Value, n int64) (Value, error) {
	count := int(max(0, min(n, 1<<40)))
	switch v := v.(type) {
	case string:
		if err := r.alloc(times(len(v), count)); err != nil || v == "" {
			return "", err
		}
		return strings.Repeat(v, count), nil
	case *List:
		if err := r.allocItems(times(len(v.Items), count)); err != nil || len(v.Items) == 0 {
			return &List{}, err
		}
		return &List{Items: slices.Repeat(v.Items, count)}, nil
	case *Tuple:
		if err := r.allocItems(times(len(v.Items), count)); err != nil || len(v.Items) == 0 {
			return &Tuple{}, err
		}
		return &Tuple{Items: slices.Repeat(v.Items, count)}, nil
	case Markup:
		return nil, refusef("multiplying Markup")
	}
	return nil, failf("cannot multiply %q by an integer", typeName(v))
}

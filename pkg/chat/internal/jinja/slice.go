package jinja

import (
	"math/big"
	"slices"
)

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

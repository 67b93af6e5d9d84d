package jinja

import (
	"strings"
	"unicode/utf8"
)

// justify is ljust, rjust and center: the share of the padding before and after the text.
func justify(name string, after, before int) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		p, err := a.bind(name, "width", "fillchar")
		if err != nil {
			return nil, err
		}
		width, ok := number(p[0])
		if !ok {
			return nil, failf("%s: the width is not an integer", name)
		}
		fill := " "
		if p[1] != missing {
			if fill, ok = text(p[1]); !ok || utf8.RuneCountInString(fill) != 1 {
				return nil, failf("%s: the fill character must be exactly one character long", name)
			}
		}
		return r.pad(s, width, fill, before, after)
	}
}

func (r *run) pad(s string, width int64, fill string, before, after int) (Value, error) {
	n := int(min(width, 1<<40)) - utf8.RuneCountInString(s)
	if n <= 0 {
		return s, nil
	}
	if err := r.alloc(len(s) + times(n, len(fill))); err != nil {
		return nil, err
	}
	left := n * before
	if before == 1 && after == 1 {
		left = n/2 + n&int(width)&1 // as CPython
	}
	return strings.Repeat(fill, left) + s + strings.Repeat(fill, n-left), nil
}

func zfill(r *run, s string, a args) (Value, error) {
	p, err := a.bind("zfill", "width")
	if err != nil {
		return nil, err
	}
	width, ok := number(p[0])
	if !ok {
		return nil, failf("zfill: the width is not an integer")
	}
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
		width--
	}
	v, err := r.pad(s, width, "0", 1, 0)
	if err != nil {
		return nil, err
	}
	return sign + v.(string), nil
}

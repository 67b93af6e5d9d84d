package jinja

import (
	"math/big"
	"strconv"
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

// formatMethod is str.format with fields {}, {0} and {name}.
func formatMethod(r *run, s string, a args) (Value, error) {
	w := &writer{r: r}
	auto := 0
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			break
		}
		if err := w.add(s[:i]); err != nil {
			return nil, err
		}
		if i+1 < len(s) && s[i+1] == s[i] {
			if err := w.add(s[i : i+1]); err != nil {
				return nil, err
			}
			s = s[i+2:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if s[i] == '}' || end < 0 {
			return nil, failf("single %q encountered in format string", s[i])
		}
		field := s[i+1 : i+end]
		s = s[i+end+1:]
		if strings.ContainsAny(field, ":!.[{") {
			return nil, refusef("the format field %q", field)
		}
		v, err := formatField(a, field, &auto)
		if err != nil {
			return nil, err
		}
		text, err := r.str(v)
		if err != nil {
			return nil, err
		}
		if err := w.add(text); err != nil {
			return nil, err
		}
	}
	err := w.add(s)
	return w.String(), err
}

func formatField(a args, field string, auto *int) (Value, error) {
	n, err := strconv.Atoi(field)
	switch {
	case field == "":
		if *auto < 0 {
			return nil, failf("cannot switch from manual field specification to automatic field numbering")
		}
		n = *auto
		*auto++
	case err == nil:
		if *auto > 0 {
			return nil, failf("cannot switch from automatic field numbering to manual field specification")
		}
		*auto = -1
	default:
		for i, name := range a.names {
			if name == field {
				return a.values[i], nil
			}
		}
		return nil, failf("format: no argument %q", field)
	}
	if n < 0 || n >= len(a.list) {
		return nil, failf("replacement index %d out of range for positional args tuple", n)
	}
	return a.list[n], nil
}

// percent is Python's "format" % v with the conversions %s, %r, %d, %i and %%, and %.Nf.
func (r *run) percent(s string, v Value) (Value, error) {
	// CPython takes what has items for a mapping, of which not all need be converted.
	spare := false
	switch v := v.(type) {
	case *Dict, *List, *Undefined:
		spare = true
	case *view:
		spare = v.kind == "range"
	}
	items := []Value{v}
	if t, ok := v.(*Tuple); ok {
		items = t.Items
	}
	w := &writer{r: r}
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			break
		}
		if err := w.add(s[:i]); err != nil {
			return nil, err
		}
		s = s[i+1:]
		if strings.HasPrefix(s, "%") {
			w.WriteByte('%')
			s = s[1:]
			continue
		}
		if len(items) == 0 {
			return nil, failf("not enough arguments for format string")
		}
		text, n, err := r.conversion(s, items[0])
		if err != nil {
			return nil, err
		}
		if err := w.add(text); err != nil {
			return nil, err
		}
		items, s = items[1:], s[n:]
	}
	if len(items) > 0 && !spare {
		return nil, failf("not all arguments converted during string formatting")
	}
	err := w.add(s)
	return w.String(), err
}

// conversion formats v by the conversion at the start of s, whose length it returns.
func (r *run) conversion(s string, v Value) (string, int, error) {
	if s == "" {
		return "", 0, failf("incomplete format")
	}
	switch s[0] {
	case 's':
		text, err := r.str(v)
		return text, 1, err
	case 'r':
		text, err := r.repr(v)
		return text, 1, err
	case 'd', 'i':
		if n, ok := number(v); ok {
			return strconv.FormatInt(n, 10), 1, nil
		}
		if n, ok := v.(*big.Int); ok {
			return n.String(), 1, nil
		}
		if _, ok := v.(float64); ok {
			return "", 0, refusef("%%d of a float")
		}
		return "", 0, failf("%%d format: a real number is required, not %s", typeName(v))
	}
	if len(s) >= 3 && s[0] == '.' && s[1] >= '0' && s[1] <= '9' && s[2] == 'f' {
		f, ok := float(v)
		if !ok {
			return "", 0, failf("must be real number, not %s", typeName(v))
		}
		return strconv.FormatFloat(f, 'f', int(s[1]-'0'), 64), 3, nil
	}
	return "", 0, refusef("the conversion %q of a format", "%"+s[:1])
}

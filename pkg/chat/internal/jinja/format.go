package jinja

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

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

// percent is Python's "format" % v with the conversions %s, %r, %d, %i, %c and %%, and %.Nf.
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
	if s[0] == 'c' {
		if c, ok := v.(string); ok && utf8.RuneCountInString(c) == 1 {
			return c, 1, nil
		}
		n, ok := number(v)
		if !ok {
			return "", 0, failf("%%c requires an int or a unicode character, not %s", typeName(v))
		}
		if n < 0 || n > 0x10ffff || n >= 0xd800 && n < 0xe000 {
			return "", 0, failf("%%c arg not in range(0x110000)")
		}
		return string(rune(n)), 1, nil
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

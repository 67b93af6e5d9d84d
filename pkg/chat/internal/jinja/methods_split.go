package jinja

import (
	"math"
	"strings"
	"unicode/utf8"
)

// splitMethod is str.split or str.rsplit.
func splitMethod(fromRight bool) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		p, err := a.bind("split", "sep", "maxsplit")
		if err != nil {
			return nil, err
		}
		limit := int64(-1)
		if p[1] != missing {
			n, ok := number(p[1])
			if !ok {
				return nil, failf("maxsplit is not an integer")
			}
			limit = n
		}
		if limit < 0 {
			limit = math.MaxInt64
		}
		if err := r.alloc(len(s)); err != nil {
			return nil, err
		}
		var parts []string
		if p[0] == missing || p[0] == nil {
			parts = splitSpace(s, limit, fromRight)
		} else {
			sep, ok := text(p[0])
			if !ok {
				return nil, failf("must be str or None, not %s", typeName(p[0]))
			}
			if sep == "" {
				return nil, failf("empty separator")
			}
			parts = splitAt(s, sep, limit, fromRight)
		}
		return r.strings(parts)
	}
}

func (r *run) strings(parts []string) (Value, error) {
	if err := r.allocItems(len(parts)); err != nil {
		return nil, err
	}
	items := make([]Value, len(parts))
	for i, s := range parts {
		items[i] = s
	}
	return &List{Items: items}, nil
}

func splitAt(s, sep string, limit int64, fromRight bool) []string {
	all := strings.Split(s, sep)
	extra := int64(len(all)) - 1 - limit // parts to join again
	if extra <= 0 {
		return all
	}
	if fromRight {
		head := strings.Join(all[:extra+1], sep)
		return append([]string{head}, all[extra+1:]...)
	}
	return append(all[:limit:limit], strings.Join(all[limit:], sep))
}

func splitSpace(s string, limit int64, fromRight bool) []string {
	var out []string
	if fromRight {
		s = strings.TrimRightFunc(s, isSpace)
		for s != "" {
			i := strings.LastIndexFunc(s, isSpace)
			if i < 0 || int64(len(out)) >= limit {
				out = append(out, s)
				break
			}
			_, width := utf8.DecodeRuneInString(s[i:])
			out = append(out, s[i+width:])
			s = strings.TrimRightFunc(s[:i], isSpace)
		}
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
		return out
	}
	s = strings.TrimLeftFunc(s, isSpace)
	for s != "" {
		i := strings.IndexFunc(s, isSpace)
		if i < 0 || int64(len(out)) >= limit {
			return append(out, s)
		}
		out = append(out, s[:i])
		s = strings.TrimLeftFunc(s[i:], isSpace)
	}
	return out
}

func splitlines(r *run, s string, a args) (Value, error) {
	p, err := a.bind("splitlines", "keepends")
	if err != nil {
		return nil, err
	}
	if err := r.alloc(len(s)); err != nil {
		return nil, err
	}
	return r.strings(lines(s, p[0] != missing && truth(p[0])))
}

// lines splits at the ends of lines that Python knows.
func lines(s string, keep bool) []string {
	var out []string
	for s != "" {
		i := strings.IndexAny(s, "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029")
		if i < 0 {
			return append(out, s)
		}
		_, width := utf8.DecodeRuneInString(s[i:])
		if strings.HasPrefix(s[i:], "\r\n") {
			width = 2
		}
		line := s[:i]
		if keep {
			line = s[:i+width]
		}
		out = append(out, line)
		s = s[i+width:]
	}
	return out
}

func partition(name string, search func(s, sub string) int) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		p, err := a.bindText(name, "sep")
		if err != nil {
			return nil, err
		}
		if p[0] == "" {
			return nil, failf("empty separator")
		}
		if err := r.alloc(len(s)); err != nil {
			return nil, err
		}
		i := search(s, p[0])
		switch {
		case i >= 0:
			return &Tuple{Items: []Value{s[:i], p[0], s[i+len(p[0]):]}}, nil
		case name == "partition":
			return &Tuple{Items: []Value{s, "", ""}}, nil
		}
		return &Tuple{Items: []Value{"", "", s}}, nil
	}
}

func replaceMethod(r *run, s string, a args) (Value, error) {
	p, err := a.bind("replace", "old", "new", "count")
	if err != nil {
		return nil, err
	}
	return r.replace(s, p)
}

// replace is str.replace with the arguments old, new and count.
func (r *run) replace(s string, p []Value) (Value, error) {
	old, ok := text(p[0])
	with, ok2 := text(p[1])
	if !ok || !ok2 {
		return nil, failf("replace: arguments must be str, not %s and %s", typeName(p[0]), typeName(p[1]))
	}
	limit := int64(-1)
	if p[2] != missing && p[2] != nil {
		if limit, ok = number(p[2]); !ok {
			return nil, failf("replace: count is not an integer")
		}
	}
	n := strings.Count(s, old)
	if limit >= 0 {
		n = int(min(int64(n), limit))
	}
	if err := r.alloc(len(s) + times(n, len(with))); err != nil {
		return nil, err
	}
	return strings.Replace(s, old, with, n), nil
}

func joinMethod(r *run, s string, a args) (Value, error) {
	p, err := a.bind("join", "iterable")
	if err != nil {
		return nil, err
	}
	items, err := r.items(p[0])
	if err != nil {
		return nil, err
	}
	parts := make([]string, len(items))
	for i, v := range items {
		part, ok := text(v)
		if !ok {
			return nil, failf("sequence item %d: expected str instance, %s found", i, typeName(v))
		}
		parts[i] = part
	}
	return r.join(parts, s)
}

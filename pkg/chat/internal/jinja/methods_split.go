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

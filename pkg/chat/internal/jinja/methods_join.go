package jinja

import (
	"strings"
)

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

package jinja

import (
	"slices"
	"strconv"
	"strings"
)

// attributes returns the value of an attribute, or of a path of them as "a.b", of each item.
func (r *run) attributes(items []Value, attribute, otherwise Value) ([]Value, error) {
	if err := r.allocItems(len(items)); err != nil {
		return nil, err
	}
	var path []Value
	if s, ok := text(attribute); ok {
		for _, part := range strings.Split(s, ".") {
			if n, err := strconv.ParseUint(part, 10, 31); err == nil {
				path = append(path, int64(n))
			} else {
				path = append(path, part)
			}
		}
	} else {
		path = []Value{attribute}
	}
	out := make([]Value, len(items))
	for i, v := range items {
		for _, part := range path {
			var err error
			if v, err = r.item(v, part); err != nil {
				return nil, err
			}
			if _, ok := v.(*Undefined); ok && otherwise != missing && otherwise != nil {
				v = otherwise
			}
		}
		out[i] = v
	}
	return out, nil
}

// folded returns the values by which Jinja sorts: str in lower case, unless case is sensitive.
func (r *run) folded(items []Value, sensitive Value) ([]Value, error) {
	if sensitive != missing && truth(sensitive) {
		return items, nil
	}
	out := slices.Clone(items)
	for i, v := range out {
		s, ok := v.(string)
		if !ok {
			continue
		}
		if err := r.alloc(len(s)); err != nil {
			return nil, err
		}
		var err error
		if out[i], err = lower(s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func sortFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("sort", "reverse", "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := r.items(v)
	if err != nil {
		return nil, err
	}
	keys := items
	if p[2] != missing && p[2] != nil {
		if s, ok := p[2].(string); ok && strings.Contains(s, ",") {
			return nil, refusef("sorting by several attributes")
		}
		if keys, err = r.attributes(items, p[2], missing); err != nil {
			return nil, err
		}
	}
	if keys, err = r.folded(keys, p[1]); err != nil {
		return nil, err
	}
	order, err := r.order(keys, p[0] != missing && truth(p[0]))
	if err != nil {
		return nil, err
	}
	out := make([]Value, len(items))
	for i, n := range order {
		out[i] = items[n]
	}
	return &List{Items: out}, r.allocItems(len(items))
}

func dictsortFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("dictsort", "case_sensitive", "by", "reverse")
	if err != nil {
		return nil, err
	}
	d, ok := v.(*Dict)
	if !ok {
		return nil, failf("dictsort needs a mapping, not %s", typeName(v))
	}
	keys := d.keys
	switch p[1] {
	case missing, "key":
	case "value":
		keys = d.values
	default:
		return nil, failf(`you can only sort by either "key" or "value"`)
	}
	if keys, err = r.folded(keys, p[0]); err != nil {
		return nil, err
	}
	order, err := r.order(keys, p[2] != missing && truth(p[2]))
	if err != nil {
		return nil, err
	}
	pairs, err := r.pairs(d)
	if err != nil {
		return nil, err
	}
	out := make([]Value, len(pairs))
	for i, n := range order {
		out[i] = pairs[n]
	}
	return &List{Items: out}, nil
}

func uniqueFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("unique", "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	return &iterator{kind: "generator", fill: func() ([]Value, error) {
		items, err := r.items(v)
		if err != nil {
			return nil, err
		}
		keys := items
		if p[1] != missing && p[1] != nil {
			if keys, err = r.attributes(items, p[1], missing); err != nil {
				return nil, err
			}
		}
		if keys, err = r.folded(keys, p[0]); err != nil {
			return nil, err
		}
		seen := map[any]bool{}
		var out []Value
		for i, k := range keys {
			h, err := r.hash(k)
			if err != nil {
				return nil, err
			}
			if !seen[h] {
				seen[h] = true
				out = append(out, items[i])
			}
		}
		return out, nil
	}}, nil
}

// order returns the positions of items sorted as Python does: stable, the items compared by <.
func (r *run) order(items []Value, reverse bool) ([]int, error) {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	var failed error
	slices.SortStableFunc(order, func(a, b int) int {
		c, err := r.compare(items[a], items[b])
		if err != nil && failed == nil {
			failed = err
		}
		if reverse {
			return -c
		}
		return c
	})
	return order, failed
}

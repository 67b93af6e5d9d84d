package jinja

import (
	"slices"
	"strconv"
	"strings"
)

func firstFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("first"); err != nil {
		return nil, err
	}
	if it, ok := v.(*iterator); ok { // takes one item from it
		if err := it.load(); err != nil {
			return nil, err
		}
		if len(it.left) > 0 {
			first := it.left[0]
			it.left = it.left[1:]
			return first, nil
		}
	}
	items, err := r.items(v)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &Undefined{"No first item, sequence was empty."}, nil
	}
	return items[0], nil
}

func lastFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("last"); err != nil {
		return nil, err
	}
	if _, ok := v.(*iterator); ok {
		return nil, failf("%q object is not reversible", typeName(v))
	}
	items, err := r.items(v)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &Undefined{"No last item, sequence was empty."}, nil
	}
	return items[len(items)-1], nil
}

func listFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("list"); err != nil {
		return nil, err
	}
	items, err := r.items(v)
	if err != nil {
		return nil, err
	}
	return &List{Items: items}, r.allocItems(len(items))
}

func itemsFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("items"); err != nil {
		return nil, err
	}
	return &iterator{kind: "generator", fill: func() ([]Value, error) {
		switch v := v.(type) {
		case *Undefined:
			return nil, nil
		case *Dict:
			return r.pairs(v)
		}
		return nil, failf("can only get item pairs from a mapping")
	}}, nil
}

func joinFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("join", "d", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := r.items(v)
	if err != nil {
		return nil, err
	}
	if p[1] != missing && p[1] != nil {
		if items, err = r.attributes(items, p[1], missing); err != nil {
			return nil, err
		}
	}
	separator := ""
	if p[0] != missing {
		if separator, err = r.str(p[0]); err != nil {
			return nil, err
		}
	}
	parts := make([]string, len(items))
	for i, item := range items {
		if parts[i], err = r.str(item); err != nil {
			return nil, err
		}
	}
	return r.join(parts, separator)
}

func reverseFilter(r *run, v Value, a args) (Value, error) {
	if _, err := a.bind("reverse"); err != nil {
		return nil, err
	}
	if s, ok := text(v); ok {
		chars := []rune(s)
		slices.Reverse(chars)
		return like(v, string(chars)), r.alloc(5 * len(s))
	}
	items, err := r.items(v)
	if err != nil {
		return nil, err
	}
	if err := r.allocItems(len(items)); err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	if _, ok := v.(*iterator); ok {
		return &List{Items: items}, nil
	}
	return &iterator{kind: "reversed", left: items}, nil
}

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

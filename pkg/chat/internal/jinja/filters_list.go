package jinja

import (
	"slices"
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

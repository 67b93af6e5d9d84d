package jinja

func batchFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("batch", "linecount", "fill_with")
	if err != nil {
		return nil, err
	}
	n, ok := number(p[0])
	if !ok || n < 1 {
		return nil, refusef("the filter %q with this size", "batch")
	}
	return &iterator{kind: "generator", fill: func() ([]Value, error) {
		items, err := r.items(v)
		if err != nil {
			return nil, err
		}
		if err := r.allocItems(2 * len(items)); err != nil {
			return nil, err
		}
		var out []Value
		for len(items) > 0 {
			take := int(min(n, int64(len(items))))
			part := append([]Value{}, items[:take]...)
			items = items[take:]
			if p[1] != missing && p[1] != nil {
				if err := r.allocItems(int(min(n, 1<<40))); err != nil {
					return nil, err
				}
				for int64(len(part)) < n {
					part = append(part, p[1])
				}
			}
			out = append(out, &List{Items: part})
		}
		return out, nil
	}}, nil
}

func sliceFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("slice", "slices", "fill_with")
	if err != nil {
		return nil, err
	}
	n, ok := number(p[0])
	if !ok || n < 1 {
		return nil, refusef("the filter %q with this number", "slice")
	}
	return &iterator{kind: "generator", fill: func() ([]Value, error) {
		items, err := r.items(v)
		if err != nil {
			return nil, err
		}
		if err := r.allocItems(len(items) + int(min(n, 1<<40))*2); err != nil {
			return nil, err
		}
		each, extra := len(items)/int(n), len(items)%int(n)
		var out []Value
		for i := range int(n) {
			take := each
			if i < extra {
				take++
			}
			part := append([]Value{}, items[:take]...)
			items = items[take:]
			if p[1] != missing && p[1] != nil && i >= extra {
				part = append(part, p[1])
			}
			out = append(out, &List{Items: part})
		}
		return out, nil
	}}, nil
}

// mapFilter applies a filter to each item, or takes an attribute of each.
func mapFilter(r *run, v Value, a args) (Value, error) {
	return &iterator{kind: "generator", fill: func() ([]Value, error) {
		if !truth(v) {
			return nil, nil
		}
		if len(a.list) == 0 {
			p, err := a.bind("map", "attribute", "default")
			if err != nil {
				return nil, err
			}
			if p[0] == missing {
				return nil, failf("map requires a filter argument")
			}
			items, err := r.items(v)
			if err != nil {
				return nil, err
			}
			return r.attributes(items, p[0], p[1])
		}
		name, ok := text(a.list[0])
		if !ok {
			return nil, failf("map requires the name of a filter")
		}
		items, err := r.items(v)
		if err != nil {
			return nil, err
		}
		if err := r.enter(); err != nil {
			return nil, err
		}
		defer r.leave()
		out := make([]Value, len(items))
		for i, item := range items {
			if out[i], err = r.filterByName(name, item, args{a.list[1:], a.names, a.values}); err != nil {
				return nil, err
			}
		}
		return out, r.allocItems(len(items))
	}}, nil
}

// selectFilter keeps the items, or the items with an attribute, for which a test gives want.
func selectFilter(name string, want, byAttribute bool) filterFunc {
	return func(r *run, v Value, a args) (Value, error) {
		return &iterator{kind: "generator", fill: func() ([]Value, error) {
			if !truth(v) {
				return nil, nil
			}
			items, err := r.items(v)
			if err != nil {
				return nil, err
			}
			tested, rest := items, a.list
			if byAttribute {
				if len(rest) == 0 {
					return nil, failf("%s: missing parameter for attribute name", name)
				}
				if tested, err = r.attributes(items, rest[0], missing); err != nil {
					return nil, err
				}
				rest = rest[1:]
			}
			var out []Value
			for i, item := range tested {
				holds := truth(item)
				if len(rest) > 0 {
					test, ok := text(rest[0])
					if !ok {
						return nil, failf("%s requires the name of a test", name)
					}
					result, err := r.test(test, item, args{rest[1:], a.names, a.values})
					if err != nil {
						return nil, err
					}
					holds = result.(bool)
				}
				if holds == want {
					out = append(out, items[i])
				}
			}
			return out, r.allocItems(len(out))
		}}, nil
	}
}

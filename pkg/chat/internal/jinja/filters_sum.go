package jinja

func sumFilter(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("sum", "attribute", "start")
	if err != nil {
		return nil, err
	}
	items, err := r.items(v)
	if err != nil {
		return nil, err
	}
	if p[0] != missing && p[0] != nil {
		if items, err = r.attributes(items, p[0], missing); err != nil {
			return nil, err
		}
	}
	total := Value(int64(0))
	if p[1] != missing {
		total = p[1]
	}
	if _, ok := text(total); ok {
		return nil, failf("sum() can't sum strings")
	}
	for _, item := range items {
		if _, ok := item.(float64); ok { // CPython compensates the error of such sums
			return nil, refusef("the filter %q of floats", "sum")
		}
		if total, err = r.binary("+", total, item); err != nil {
			return nil, err
		}
	}
	return total, nil
}

// extreme is the filter max or min.
func extreme(name string) filterFunc {
	return func(r *run, v Value, a args) (Value, error) {
		p, err := a.bind(name, "case_sensitive", "attribute")
		if err != nil {
			return nil, err
		}
		items, err := r.items(v)
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return &Undefined{"No aggregated item, sequence was empty."}, nil
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
		best := 0
		for i := 1; i < len(keys); i++ {
			c, err := r.compare(keys[i], keys[best])
			if err != nil {
				return nil, err
			}
			if name == "max" && c > 0 || name == "min" && c < 0 {
				best = i
			}
		}
		return items[best], nil
	}
}

package jinja

var dictMethods map[string]func(r *run, d *Dict, a args) (Value, error)

var listMethods map[string]func(r *run, items []Value, a args) (Value, error)

func init() {
	dictMethods = map[string]func(r *run, d *Dict, a args) (Value, error){
		"get": func(r *run, d *Dict, a args) (Value, error) {
			p, err := a.bind("get", "key", "default")
			if err != nil {
				return nil, err
			}
			if len(a.names) > 0 || p[0] == missing {
				return nil, failf("get takes one or two positional arguments")
			}
			v, ok, err := r.lookup(d, p[0])
			if ok || err != nil {
				return v, err
			}
			if p[1] == missing {
				return nil, nil
			}
			return p[1], nil
		},
		"keys": func(r *run, d *Dict, a args) (Value, error) {
			_, err := a.bind("keys")
			return &view{kind: "dict_keys", items: d.keys}, err
		},
		"values": func(r *run, d *Dict, a args) (Value, error) {
			_, err := a.bind("values")
			return &view{kind: "dict_values", items: d.values}, err
		},
		"items": func(r *run, d *Dict, a args) (Value, error) {
			if _, err := a.bind("items"); err != nil {
				return nil, err
			}
			items, err := r.pairs(d)
			return &view{kind: "dict_items", items: items}, err
		},
		"copy": func(r *run, d *Dict, a args) (Value, error) {
			_, err := a.bind("copy")
			return d, err // a template cannot change it
		},
	}
	listMethods = map[string]func(r *run, items []Value, a args) (Value, error){
		"copy": func(r *run, items []Value, a args) (Value, error) {
			_, err := a.bind("copy")
			return &List{Items: items}, err
		},
		"count": func(r *run, items []Value, a args) (Value, error) {
			p, err := a.bind("count", "value")
			if err != nil {
				return nil, err
			}
			n := int64(0)
			for _, v := range items {
				same, err := r.equal(v, p[0])
				if err != nil {
					return nil, err
				}
				if same {
					n++
				}
			}
			return n, nil
		},
		"index": func(r *run, items []Value, a args) (Value, error) {
			if len(a.list) > 1 {
				return nil, refusef("index with a range")
			}
			p, err := a.bind("index", "value")
			if err != nil {
				return nil, err
			}
			for i, v := range items {
				if same, err := r.equal(v, p[0]); same || err != nil {
					return int64(i), err
				}
			}
			return nil, failf("the value is not in the list")
		},
	}
}

// pairs returns a dict's keys and values as tuples.
func (r *run) pairs(d *Dict) ([]Value, error) {
	if err := r.allocItems(4 * d.Len()); err != nil {
		return nil, err
	}
	items := make([]Value, d.Len())
	for i, k := range d.keys {
		items[i] = &Tuple{Items: []Value{k, d.values[i]}}
	}
	return items, nil
}

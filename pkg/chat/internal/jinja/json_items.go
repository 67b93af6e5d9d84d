package jinja

// begin writes what stands before an item: a comma, and with an indent a new line.
func (d *dumper) begin(first bool, newline string) error {
	if !first {
		if err := d.add(d.comma); err != nil {
			return err
		}
	}
	if d.indent == nil {
		return nil
	}
	return d.add(newline)
}

// deeper returns the new line of the next level.
func (d *dumper) deeper(newline string) (string, error) {
	if d.indent == nil {
		return newline, nil
	}
	return newline + *d.indent, d.r.alloc(len(newline) + len(*d.indent))
}

func (d *dumper) list(items []Value, newline string) error {
	if len(items) == 0 {
		return d.add("[]")
	}
	if err := d.add("["); err != nil {
		return err
	}
	inner, err := d.deeper(newline)
	if err != nil {
		return err
	}
	for i, item := range items {
		if err := d.begin(i == 0, inner); err != nil {
			return err
		}
		if err := d.value(item, inner); err != nil {
			return err
		}
	}
	if err := d.begin(true, newline); err != nil {
		return err
	}
	return d.add("]")
}

func (d *dumper) object(v *Dict, newline string) error {
	if v.Len() == 0 {
		return d.add("{}")
	}
	order := make([]int, v.Len())
	for i := range order {
		order[i] = i
	}
	if d.sorted {
		var err error
		if order, err = d.r.order(v.keys, false); err != nil {
			return err
		}
	}
	if err := d.add("{"); err != nil {
		return err
	}
	inner, err := d.deeper(newline)
	if err != nil {
		return err
	}
	for i, n := range order {
		if err := d.begin(i == 0, inner); err != nil {
			return err
		}
		key, ok := text(v.keys[n])
		if !ok {
			if key, ok = jsonScalar(v.keys[n]); !ok {
				return failf("keys must be str, int, float, bool or None, not %s", typeName(v.keys[n]))
			}
		}
		if err := d.text(key); err != nil {
			return err
		}
		if err := d.add(d.colon); err != nil {
			return err
		}
		if err := d.value(v.values[n], inner); err != nil {
			return err
		}
	}
	if err := d.begin(true, newline); err != nil {
		return err
	}
	return d.add("}")
}

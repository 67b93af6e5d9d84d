package jinja

import (
	"math/big"
	"strconv"
	"strings"
)

// writer collects text within the budget.
type writer struct {
	strings.Builder
	r *run
}

func (w *writer) add(s string) error {
	if err := w.r.alloc(len(s)); err != nil {
		return err
	}
	w.WriteString(s)
	return nil
}

// str is Python's str(v), as a print statement writes it.
func (r *run) str(v Value) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case Markup:
		return string(v), nil
	case *Undefined:
		return "", nil
	}
	return r.repr(v)
}

// repr is Python's repr(v).
func (r *run) repr(v Value) (string, error) {
	w := &writer{r: r}
	err := w.repr(v)
	return w.String(), err
}

func (w *writer) repr(v Value) error {
	if err := w.r.enter(); err != nil {
		return err
	}
	defer w.r.leave()
	switch v := v.(type) {
	case nil:
		return w.add("None")
	case bool:
		if v {
			return w.add("True")
		}
		return w.add("False")
	case int64:
		return w.add(strconv.FormatInt(v, 10))
	case *big.Int:
		return w.add(v.String())
	case float64:
		return w.add(formatFloat(v))
	case string:
		return w.add(quote(v))
	case Markup:
		return w.add("Markup(" + quote(string(v)) + ")")
	case *Undefined:
		return w.add("Undefined")
	case *List:
		if v.Watch != nil {
			v.Watch.Printed = true
		}
		return w.sequence("[", v.Items, "]")
	case *Tuple:
		if len(v.Items) == 1 {
			return w.sequence("(", v.Items, ",)")
		}
		return w.sequence("(", v.Items, ")")
	case *Dict:
		return w.dict(v)
	case *view:
		if v.kind == "range" {
			return w.add(v.repr)
		}
		return w.sequence(v.kind+"([", v.items, "])")
	case *namespace:
		if err := w.add("<Namespace "); err != nil {
			return err
		}
		if err := w.dict(v.attrs); err != nil {
			return err
		}
		return w.add(">")
	}
	return refusef("printing an object of type %s", typeName(v))
}

func (w *writer) sequence(open string, items []Value, end string) error {
	if err := w.add(open); err != nil {
		return err
	}
	for i, item := range items {
		if i > 0 {
			if err := w.add(", "); err != nil {
				return err
			}
		}
		if err := w.repr(item); err != nil {
			return err
		}
	}
	return w.add(end)
}

func (w *writer) dict(d *Dict) error {
	open := "{"
	for i, k := range d.keys {
		if i > 0 {
			open = ", "
		}
		if err := w.add(open); err != nil {
			return err
		}
		if err := w.repr(k); err != nil {
			return err
		}
		if err := w.add(": "); err != nil {
			return err
		}
		if err := w.repr(d.values[i]); err != nil {
			return err
		}
	}
	if d.Len() == 0 {
		return w.add("{}")
	}
	return w.add("}")
}

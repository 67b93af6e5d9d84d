package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
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

// formatFloat is Python's repr of a float.
func formatFloat(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	exponent, _ := strconv.Atoi(s[strings.IndexByte(s, 'e')+1:])
	if exponent < -4 || exponent >= 16 {
		return s // both have a sign and two digits or more
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// quote is Python's repr of a str.
func quote(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte(q)
	for _, c := range s {
		switch {
		case c == '\\' || c == rune(q):
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(c):
			b.WriteRune(c)
		case c < 0x100:
			b.WriteString(`\x` + hex(c, 2))
		case c < 0x10000:
			b.WriteString(`\u` + hex(c, 4))
		default:
			b.WriteString(`\U` + hex(c, 8))
		}
	}
	b.WriteByte(q)
	return b.String()
}

func hex(c rune, digits int) string {
	s := strconv.FormatInt(int64(c), 16)
	return strings.Repeat("0", digits-len(s)) + s
}

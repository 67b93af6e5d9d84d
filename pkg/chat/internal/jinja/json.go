package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// dumper writes JSON as Python's json.dumps does.
type dumper struct {
	writer
	ascii, sorted bool
	indent        *string // nil is one line
	comma, colon  string
}

// tojson is the filter of transformers: json.dumps without escapes for HTML.
func tojson(r *run, v Value, a args) (Value, error) {
	p, err := a.bind("tojson", "ensure_ascii", "indent", "separators", "sort_keys")
	if err != nil {
		return nil, err
	}
	d := &dumper{writer: writer{r: r}, comma: ", ", colon: ": "}
	d.ascii = p[0] != missing && truth(p[0])
	d.sorted = p[3] != missing && truth(p[3])
	if p[1] != missing && p[1] != nil {
		indent, ok := p[1].(string)
		if n, isInt := number(p[1]); isInt {
			if err := r.alloc(int(max(n, 0))); err != nil {
				return nil, err
			}
			indent, ok = strings.Repeat(" ", int(max(n, 0))), true
		}
		if !ok {
			return nil, failf("tojson: indent is of type %s", typeName(p[1]))
		}
		d.indent, d.comma = &indent, ","
	}
	if p[2] != missing && p[2] != nil {
		items, err := r.items(p[2])
		if err != nil {
			return nil, err
		}
		if len(items) != 2 {
			return nil, failf("tojson: separators are not two strings")
		}
		var ok, ok2 bool
		d.comma, ok = items[0].(string)
		if d.colon, ok2 = items[1].(string); !ok || !ok2 {
			return nil, failf("tojson: separators are not two strings")
		}
	}
	err = d.value(v, "\n")
	return d.String(), err
}

func (d *dumper) value(v Value, newline string) error {
	if err := d.r.enter(); err != nil {
		return err
	}
	defer d.r.leave()
	switch v := v.(type) {
	case nil, bool, int64, *big.Int, float64:
		s, _ := jsonScalar(v)
		return d.add(s)
	case string:
		return d.text(v)
	case Markup:
		return d.text(string(v))
	case *List:
		if v.Watch != nil {
			v.Watch.Printed = true
		}
		return d.list(v.Items, newline)
	case *Tuple:
		return d.list(v.Items, newline)
	case *Dict:
		return d.object(v, newline)
	}
	return failf("object of type %s is not JSON serializable", typeName(v))
}

func jsonScalar(v Value) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "null", true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case *big.Int:
		return v.String(), true
	case float64:
		switch {
		case math.IsNaN(v):
			return "NaN", true
		case math.IsInf(v, 1):
			return "Infinity", true
		case math.IsInf(v, -1):
			return "-Infinity", true
		}
		return formatFloat(v), true
	}
	return "", false
}

var jsonEscapes = map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\f': `\f`, '\b': `\b`}

func (d *dumper) text(s string) error {
	if err := d.r.alloc(len(s)); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		escape, ok := jsonEscapes[c]
		switch {
		case ok:
			b.WriteString(escape)
		case c < 0x20 || d.ascii && c > 0x7e && c < 0x10000 && c != 0x7f:
			b.WriteString(`\u` + hex(c, 4))
		case d.ascii && c >= 0x10000:
			c -= 0x10000
			b.WriteString(`\u` + hex(0xd800+c>>10, 4) + `\u` + hex(0xdc00+c&0x3ff, 4))
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return d.add(b.String())
}

package jinja

import (
	"fmt"
	"strings"
	"time"
)

// globals are the functions that every template has.
var globals map[string]*function

func init() {
	globals = map[string]*function{}
	for name, f := range map[string]func(r *run, a args) (Value, error){
		"range": rangeFunc, "dict": dictFunc, "namespace": namespaceFunc, "joiner": joinerFunc,
		"raise_exception": raiseFunc, "strftime_now": strftimeFunc,
		"cycler": refuseFunc("cycler"), "lipsum": refuseFunc("lipsum"),
	} {
		globals[name] = &function{name, f}
	}
}

func refuseFunc(name string) func(r *run, a args) (Value, error) {
	return func(*run, args) (Value, error) { return nil, refusef("the function %q", name) }
}

func rangeFunc(r *run, a args) (Value, error) {
	if len(a.names) > 0 || len(a.list) < 1 || len(a.list) > 3 {
		return nil, failf("range expects one to three positional arguments")
	}
	parts := make([]int64, len(a.list))
	for i, v := range a.list {
		n, ok := number(v)
		if !ok {
			if u, ok := v.(*Undefined); ok {
				return nil, failf("%s", u.Msg)
			}
			return nil, failf("%q object cannot be interpreted as an integer", typeName(v))
		}
		parts[i] = n
	}
	start, stop, step := int64(0), parts[0], int64(1)
	if len(parts) > 1 {
		start, stop = parts[0], parts[1]
	}
	v := &view{kind: "range", repr: fmt.Sprintf("range(%d, %d)", start, stop)}
	if len(parts) == 3 {
		step = parts[2]
		if step != 1 {
			v.repr = fmt.Sprintf("range(%d, %d, %d)", start, stop, step)
		}
	}
	if step == 0 {
		return nil, failf("range() arg 3 must not be zero")
	}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(v.items) >= maxRange {
			return nil, failf("range too big: the sandbox blocks ranges larger than %d", maxRange)
		}
		v.items = append(v.items, i)
		if (i+step > i) != (step > 0) {
			break
		}
	}
	return v, r.allocItems(len(v.items))
}

func dictFunc(r *run, a args) (Value, error) {
	d := NewDict()
	if len(a.list) > 1 {
		return nil, failf("dict expected at most 1 argument")
	}
	for _, v := range a.list {
		from, ok := v.(*Dict)
		if !ok {
			return nil, refusef("dict() of a value of type %s", typeName(v))
		}
		for i, k := range from.keys {
			h, err := r.hash(k)
			if err != nil {
				return nil, err
			}
			d.set(h, k, from.values[i])
		}
	}
	for i, name := range a.names {
		d.Set(name, a.values[i])
	}
	return d, r.allocItems(4 * d.Len())
}

func namespaceFunc(r *run, a args) (Value, error) {
	d, err := dictFunc(r, a)
	if err != nil {
		return nil, err
	}
	for _, k := range d.(*Dict).keys {
		if name, ok := k.(string); ok && strings.HasPrefix(name, "_") {
			return nil, failf("chat templates cannot store underscore-prefixed attributes on a namespace, but got %q", name)
		}
	}
	return &namespace{d.(*Dict)}, nil
}

func joinerFunc(r *run, a args) (Value, error) {
	p, err := a.bind("joiner", "sep")
	if err != nil {
		return nil, err
	}
	sep := Value(", ")
	if p[0] != missing {
		sep = p[0]
	}
	used := false
	return &function{"joiner", func(*run, args) (Value, error) {
		if !used {
			used = true
			return "", nil
		}
		return sep, nil
	}}, nil
}

func raiseFunc(r *run, a args) (Value, error) {
	p, err := a.bind("raise_exception", "message")
	if err != nil {
		return nil, err
	}
	if p[0] == missing {
		return nil, failf("raise_exception needs a message")
	}
	s, err := r.str(p[0])
	if err != nil {
		return nil, err
	}
	return nil, &Error{Raised, 0, s}
}

func strftimeFunc(r *run, a args) (Value, error) {
	p, err := a.bindText("strftime_now", "format")
	if err != nil {
		return nil, err
	}
	s, err := strftime(r.now, p[0])
	if err != nil {
		return nil, err
	}
	return s, r.alloc(len(s))
}

// layouts are the directives of C's strftime in the locale C, as layouts of package time.
var layouts = map[string]string{
	"Y": "2006", "y": "06", "m": "01", "d": "02", "H": "15", "M": "04", "S": "05", "I": "03",
	"B": "January", "b": "Jan", "h": "Jan", "A": "Monday", "a": "Mon", "p": "PM", "j": "002",
	"e": "_2", "F": "2006-01-02", "T": "15:04:05", "R": "15:04", "D": "01/02/06",
	"-d": "2", "-m": "1", "-I": "3", "-M": "4", "-S": "5", "f": "000000",
}

func strftime(t time.Time, format string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		name := format[i : i+1]
		if name == "-" && i+1 < len(format) {
			i++
			name = format[i-1 : i+1]
		}
		layout, ok := layouts[name]
		switch {
		case name == "%":
			b.WriteByte('%')
		case name == "f":
			fmt.Fprintf(&b, "%06d", t.Nanosecond()/1000)
		case name == "-H":
			fmt.Fprint(&b, t.Hour())
		case name == "Z" || name == "z": // empty for a time without a zone
		case ok:
			b.WriteString(t.Format(layout))
		default:
			return "", refusef("the directive %q of strftime", "%"+name)
		}
	}
	return b.String(), nil
}

package jinja

import (
	"math/big"
	"slices"
	"strings"
)

// attribute is jinja2's environment.getattr: the attribute, or else the item of that name.
func (r *run) attribute(v Value, name string) (Value, error) {
	if u, ok := v.(*Undefined); ok {
		return nil, failf("%s", u.Msg)
	}
	if a, found, err := r.pyAttribute(v, name); found || err != nil {
		return a, err
	}
	if d, ok := v.(*Dict); ok {
		if item, ok := d.Get(name); ok {
			return item, nil
		}
	}
	return noAttribute(v, name), nil
}

// The attributes of Python's types that are no methods of the tables in methods*.go. Those that
// change a list or a dict are undefined in the sandbox.
var (
	otherAttributes = map[string]string{
		"str":   "casefold encode expandtabs format_map isascii isidentifier isprintable maketrans translate",
		"int":   "as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag is_integer numerator real to_bytes",
		"float": "as_integer_ratio conjugate fromhex hex imag is_integer real from_number",
		"dict":  "fromkeys",
		"range": "count index start step stop",

		"dict_keys":   "isdisjoint mapping",
		"dict_items":  "isdisjoint mapping",
		"dict_values": "mapping",
		"generator":   "close gi_code gi_frame gi_running gi_suspended gi_yieldfrom send throw",
		"Macro":       "name arguments caller catch_kwargs catch_varargs explicit_caller",
	}
	mutating = map[string]string{
		"list": "append clear extend insert pop remove reverse sort",
		"dict": "clear pop popitem setdefault update",
	}
)

func has(words, name string) bool {
	return slices.Contains(strings.Fields(words), name)
}

// pyAttribute returns the attribute that a Python object of the type of v has.
func (r *run) pyAttribute(v Value, name string) (Value, bool, error) {
	if strings.HasPrefix(name, "__") {
		return nil, false, refusef("the attribute %q", name)
	}
	kind := typeName(v)
	if kind == "bool" {
		kind = "int"
	}
	if has(mutating[kind], name) {
		return &Undefined{"access to attribute " + quote(name) + " of '" + kind + "' object is unsafe"}, true, nil
	}
	if has(otherAttributes[kind], name) {
		return nil, false, refusef("the attribute %q of a value of type %s", name, kind)
	}
	switch v := v.(type) {
	case string:
		if m, ok := stringMethods[name]; ok {
			return &function{name, func(r *run, a args) (Value, error) { return m(r, v, a) }}, true, nil
		}
	case Markup:
		if _, ok := stringMethods[name]; ok || has(otherAttributes["str"], name) {
			return nil, false, refusef("the method %q of Markup", name)
		}
	case *Dict:
		if m, ok := dictMethods[name]; ok {
			return &function{name, func(r *run, a args) (Value, error) { return m(r, v, a) }}, true, nil
		}
	case *List:
		if m, ok := listMethods[name]; ok {
			v.read()
			return &function{name, func(r *run, a args) (Value, error) { return m(r, v.Items, a) }}, true, nil
		}
	case *Tuple:
		if i := slices.Index(v.Names, name); i >= 0 {
			return v.Items[i], true, nil
		}
		if m, ok := listMethods[name]; ok && name != "copy" {
			return &function{name, func(r *run, a args) (Value, error) { return m(r, v.Items, a) }}, true, nil
		}
	case *namespace:
		a, ok := v.attrs.Get(name)
		return a, ok, nil
	case *loop:
		a, ok := v.attribute(name)
		return a, ok, nil
	case *function:
		return nil, false, refusef("an attribute of a function")
	case *big.Int:
		return nil, false, nil
	}
	return nil, false, nil
}

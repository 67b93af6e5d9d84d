package jinja

import (
	"math/big"
)

// Value is a value of a template: nil (None), bool, int64, *big.Int (an integer beyond int64,
// which can only be printed and compared), float64, string, or one of this package's types.
// Values do not change once they are made, except namespaces, iterators and loops.
type Value any

// Markup is a string that the filters safe and escape return.
type Markup string

// Undefined is what an unknown name, attribute or item is. It prints as nothing; most other
// uses of it fail.
type Undefined struct {
	Msg string // the error of those uses
}

// List is a Python list.
type List struct {
	Items []Value
	// Watch, if it is not nil, learns what the template does with the list.
	Watch *Watch
}

// Watch records uses of a list.
type Watch struct {
	Read    bool // its items were read
	Printed bool // it was made a string as a whole
}

// Tuple is a Python tuple. Names, if there are any, are its items' attributes.
type Tuple struct {
	Items []Value
	Names []string
}

// Dict is a Python dict: it keeps the order of its keys.
type Dict struct {
	keys   []Value
	values []Value
	index  map[any]int
}

// view is a range, or what a dict's methods keys, values and items return.
type view struct {
	kind  string // "dict_keys", "dict_values", "dict_items" or "range"
	items []Value
	repr  string // of a range
}

// iterator is a generator: what filters as map and select return. Its items are made when the
// first is asked for, and can be read once.
type iterator struct {
	kind string
	fill func() ([]Value, error)
	left []Value
}

func (it *iterator) load() error {
	if it.fill == nil {
		return nil
	}
	fill := it.fill
	it.fill = nil
	items, err := fill()
	it.left = items
	return err
}

// namespace is the object whose attributes a template may set.
type namespace struct{ attrs *Dict }

// function is a callable of Jinja's or Python's.
type function struct {
	name string
	call func(r *run, a args) (Value, error)
}

// macro is a macro or the body of a call block, with the scope in which it was defined.
type macro struct {
	macroDef
	scope *scope
}

// NewDict returns a dict of keys and values in the given order; a later value of a key replaces
// an earlier one in its place.
func NewDict() *Dict { return &Dict{index: map[any]int{}} }

// Len returns the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

// Set gives the string key a value. It is for building a dict, before a template sees it.
func (d *Dict) Set(key string, v Value) { d.set(key, key, v) }

// Get returns the value of a string key.
func (d *Dict) Get(key string) (Value, bool) {
	i, ok := d.index[key]
	if !ok {
		return nil, false
	}
	return d.values[i], true
}

// Each calls f with every key and value in order.
func (d *Dict) Each(f func(key, v Value)) {
	for i, k := range d.keys {
		f(k, d.values[i])
	}
}

func (d *Dict) set(hash any, key, v Value) {
	if i, ok := d.index[hash]; ok {
		d.values[i] = v
		return
	}
	d.index[hash] = len(d.keys)
	d.keys = append(d.keys, key)
	d.values = append(d.values, v)
}

// integer returns the value of an integer of any size.
func integer(n *big.Int) Value {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

// typeName is the name that Python's errors give to the type of v.
func typeName(v Value) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case Markup:
		return "Markup"
	case *Undefined:
		return "Undefined"
	case *List:
		return "list"
	case *Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	case *view:
		return v.kind
	case *iterator:
		return v.kind
	case *namespace:
		return "Namespace"
	case *macro:
		return "Macro"
	case *loop:
		return "LoopContext"
	}
	return "function"
}

// truth is Python's bool(v).
func truth(v Value) bool {
	switch v := v.(type) {
	case nil, *Undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case Markup:
		return v != ""
	case *List:
		return len(v.Items) > 0
	case *Tuple:
		return len(v.Items) > 0
	case *Dict:
		return v.Len() > 0
	case *view:
		return len(v.items) > 0
	}
	return true
}

// text returns the text of a str or Markup.
func text(v Value) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case Markup:
		return string(v), true
	}
	return "", false
}

// number returns v as an integer; bool counts as one, as in Python.
func number(v Value) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func float(v Value) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f, true
	}
	n, ok := number(v)
	return float64(n), ok
}

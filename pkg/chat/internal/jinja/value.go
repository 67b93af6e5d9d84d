package jinja

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

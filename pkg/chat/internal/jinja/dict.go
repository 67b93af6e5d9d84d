package jinja

import (
	"math/big"
	"strings"
)

// noneKey is the hash of None.
type noneKey struct{}

// hash returns what a dict finds a key by: values that are equal have the same.
func (r *run) hash(v Value) (any, error) {
	if n, ok := number(v); ok {
		return n, nil
	}
	switch v := v.(type) {
	case nil:
		return noneKey{}, nil
	case string:
		return v, nil
	case Markup:
		return string(v), nil
	case float64:
		if n := int64(v); float64(n) == v {
			return n, nil
		}
		return v, nil
	case *big.Int, *Tuple, *Undefined, *iterator, *function, *macro:
		return nil, refusef("a dict key of type %s", typeName(v))
	}
	return nil, failf("unhashable type: %q", typeName(v))
}

// lookup finds a key in a dict.
func (r *run) lookup(d *Dict, key Value) (Value, bool, error) {
	h, err := r.hash(key)
	if err != nil {
		return nil, false, err
	}
	i, ok := d.index[h]
	if !ok {
		return nil, false, nil
	}
	return d.values[i], true, nil
}

// contains is Python's "item in v".
func (r *run) contains(v, item Value) (bool, error) {
	if err := r.scan(v); err != nil {
		return false, err
	}
	if s, ok := text(v); ok {
		sub, ok := text(item)
		if !ok {
			return false, failf("'in <string>' requires string as left operand, not %s", typeName(item))
		}
		return strings.Contains(s, sub), nil
	}
	if d, ok := v.(*Dict); ok {
		_, found, err := r.lookup(d, item)
		return found, err
	}
	items, err := r.items(v)
	if err != nil {
		return false, err
	}
	for _, x := range items {
		if same, err := r.equal(x, item); err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// Dict is a Python dict: it keeps the order of its keys.
type Dict struct {
	keys   []Value
	values []Value
	index  map[any]int
}

// NewDict returns an empty dict. A later value of a key replaces an earlier one in its place.
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

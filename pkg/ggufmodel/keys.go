package ggufmodel

import (
	"math"
	"slices"
	"strconv"

	"afmq/pkg/fault"
	"afmq/pkg/gguf"
)

// keys reads the keys of one architecture and keeps the first error, so that a reader of many keys
// checks for an error once.
type keys struct {
	file   *gguf.File
	prefix string // "llama."
	err    error
}

// need marks a required key: one without a default.
const need = -1

func (k *keys) fail(name, format string, args ...any) {
	if k.err == nil {
		k.err = fault.Inputf(k.file.Path(), "key %q "+format, append([]any{k.prefix + name}, args...)...)
	}
}

// keep keeps an error if it is the first.
func (k *keys) keep(err error) {
	if k.err == nil {
		k.err = err
	}
}

func (k *keys) has(name string) bool {
	_, ok := k.file.Value(k.prefix + name)
	return ok
}

// int reads an integer in [least, most]. A missing key gives def; if def is need, it is an error.
func (k *keys) int(name string, def, least, most int) int {
	if !k.has(name) && def != need {
		return def
	}
	n, err := k.file.Integer(k.prefix + name)
	if err != nil {
		k.keep(err)
		return least
	}
	return k.within(name, n, least, most)
}

func (k *keys) within(name string, n, least, most int) int {
	if n < least || n > most {
		k.fail(name, "is %d; expected %d to %d", n, least, most)
		return least
	}
	return n
}

// each reads an integer that a file may also give for each layer. Layers that differ are refused.
func (k *keys) each(name string, def, least, most int) int {
	v, _ := k.file.Value(k.prefix + name)
	var list []int64
	switch v := v.(type) {
	case []uint32:
		for _, x := range v {
			list = append(list, int64(x))
		}
	case []int32:
		for _, x := range v {
			list = append(list, int64(x))
		}
	default:
		return k.int(name, def, least, most)
	}
	if len(list) == 0 {
		k.fail(name, "has no elements")
		return least
	}
	if slices.Min(list) != slices.Max(list) {
		k.fail(name, "differs from layer to layer, which is not supported")
		return least
	}
	return k.within(name, int(list[0]), least, most)
}

// float reads a finite number. A missing key gives def; if def is need, it is an error.
//
// A float32 is the shortest decimal that is nearest to it, because that is what config.json had:
// 1e-06, not 9.999999974752427e-07.
func (k *keys) float(name string, def float64) float64 {
	v, ok := k.file.Value(k.prefix + name)
	if !ok {
		if def == need {
			k.fail(name, "is missing")
		}
		return def
	}
	var x float64
	switch v := v.(type) {
	case float32:
		x, _ = strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	case float64:
		x = v
	default:
		k.fail(name, "is a %T; expected a number", v)
		return def
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		k.fail(name, "is %v; expected a finite number", x)
		return def
	}
	return x
}

func (k *keys) string(name, def string) string {
	v, ok := k.file.Value(k.prefix + name)
	s, isString := v.(string)
	if ok && !isString {
		k.fail(name, "is a %T; expected a string", v)
	}
	if !ok || !isString {
		return def
	}
	return s
}

func (k *keys) bool(name string, def bool) bool {
	v, ok := k.file.Value(k.prefix + name)
	b, isBool := v.(bool)
	if ok && !isBool {
		k.fail(name, "is a %T; expected a bool", v)
	}
	if !ok || !isBool {
		return def
	}
	return b
}

// id reads a token id below n, or false if the key is missing.
func (k *keys) id(name string, n int) (int32, bool) {
	if !k.has(name) {
		return 0, false
	}
	id, err := k.file.Integer(k.prefix + name)
	if err != nil {
		k.keep(err)
		return 0, false
	}
	if id >= n {
		k.fail(name, "is %d; there are %d tokens", id, n)
		return 0, false
	}
	return int32(id), true
}

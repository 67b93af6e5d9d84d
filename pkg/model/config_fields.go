package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"afmq/pkg/fault"
)

// MaxConfigBytes is the size of the largest config.json that is read; real ones have a few KB.
const MaxConfigBytes = 16 << 20

// fields reads the keys of one JSON object and keeps the first error, so that a reader of many
// keys checks for an error once.
type fields struct {
	file string
	path string // of the object within the file, "" or "rope_scaling."
	m    map[string]json.RawMessage
	err  error
}

// parseFields splits a JSON object. Duplicate keys are an error: readers of JSON disagree on
// which of them counts.
func parseFields(file, path string, data []byte) (*fields, error) {
	if len(data) > MaxConfigBytes {
		return nil, fault.Inputf(file, "has %d bytes; at most %d are read", len(data), MaxConfigBytes)
	}
	f := &fields{file: file, path: path, m: map[string]json.RawMessage{}}
	d := json.NewDecoder(bytes.NewReader(data))
	token, err := d.Token()
	if err != nil {
		return nil, f.syntax(err)
	}
	if token != json.Delim('{') {
		return nil, f.errorf("", "is not a JSON object")
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, f.syntax(err)
		}
		key := token.(string)
		if _, duplicate := f.m[key]; duplicate {
			return nil, f.errorf(key, "is a duplicate")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, f.syntax(err)
		}
		f.m[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, f.syntax(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, f.errorf("", "has trailing data after the JSON object")
	}
	return f, nil
}

func (f *fields) syntax(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fault.Inputf(f.file, "not valid JSON: %v", err)
}

// errorf returns an error about one key, or about the object where key is "".
func (f *fields) errorf(key, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	if key != "" || f.path != "" {
		msg = fmt.Sprintf("key %q %s", trimDot(f.path+key), msg)
	}
	return fault.Inputf(f.file, "%s", msg)
}

func trimDot(s string) string {
	if n := len(s); n > 0 && s[n-1] == '.' {
		return s[:n-1]
	}
	return s
}

func (f *fields) fail(key, format string, args ...any) {
	if f.err == nil {
		f.err = f.errorf(key, format, args...)
	}
}

// has reports whether the key is present with a value other than null.
func (f *fields) has(key string) bool {
	v, ok := f.m[key]
	return ok && string(v) != "null"
}

// isNull reports whether the key is present with the value null.
func (f *fields) isNull(key string) bool { return string(f.m[key]) == "null" }

// excerpt returns a value, shortened for an error message.
func excerpt(v json.RawMessage) string {
	const most = 40
	if len(v) > most {
		return string(v[:most]) + "…"
	}
	return string(v)
}

// need marks a required key: one without a default.
const need = -1

// int reads an integer in [least, most]. A missing key, or null, gives def; if def is need, it is
// an error.
func (f *fields) int(key string, def, least, most int) int {
	if !f.has(key) {
		if def == need {
			f.fail(key, "is missing")
		}
		return def
	}
	// Some programs write 4096.0 for 4096.
	x, err := strconv.ParseFloat(string(f.m[key]), 64)
	if err != nil || x != math.Trunc(x) || math.IsInf(x, 0) {
		f.fail(key, "is %s; expected an integer", excerpt(f.m[key]))
		return least
	}
	if x < float64(least) || x > float64(most) {
		f.fail(key, "is %s; expected %d to %d", excerpt(f.m[key]), least, most)
		return least
	}
	return int(x)
}

// float reads a finite number, def if the key is missing or null.
func (f *fields) float(key string, def float64) float64 {
	if !f.has(key) {
		return def
	}
	x, err := strconv.ParseFloat(string(f.m[key]), 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		f.fail(key, "is %s; expected a number", excerpt(f.m[key]))
		return def
	}
	return x
}

func (f *fields) bool(key string, def bool) bool {
	b := def
	f.decode(key, &b, "true or false")
	return b
}

func (f *fields) string(key, def string) string {
	s := def
	f.decode(key, &s, "a string")
	return s
}

func (f *fields) floats(key string) []float64 {
	var v []float64
	f.decode(key, &v, "a list of numbers")
	return v
}

func (f *fields) ints(key string) []int {
	var v []int
	f.decode(key, &v, "a list of integers")
	return v
}

func (f *fields) strings(key string) []string {
	var v []string
	f.decode(key, &v, "a list of strings")
	return v
}

func (f *fields) decode(key string, dst any, want string) {
	if f.has(key) && json.Unmarshal(f.m[key], dst) != nil {
		f.fail(key, "is %s; expected %s", excerpt(f.m[key]), want)
	}
}

// ids reads a token id or a list of token ids, without duplicates; null and a missing key give
// none.
func (f *fields) ids(key string, vocab int) []int32 {
	if !f.has(key) {
		return nil
	}
	var many []int64
	if f.m[key][0] != '[' {
		many = make([]int64, 1)
		f.decode(key, &many[0], "a token id")
	} else {
		f.decode(key, &many, "a list of token ids")
	}
	var out []int32
	for _, id := range many {
		if id < 0 || id >= int64(vocab) {
			f.fail(key, "has token id %d, but the embedding has %d rows (vocab_size)", id, vocab)
			return nil
		}
		if !slices.Contains(out, int32(id)) {
			out = append(out, int32(id))
		}
	}
	return out
}

// object reads a nested object, nil if the key is missing or null.
func (f *fields) object(key string) *fields {
	if !f.has(key) {
		return nil
	}
	o, err := parseFields(f.file, f.path+key+".", f.m[key])
	if err != nil {
		if f.err == nil {
			f.err = err
		}
		return nil
	}
	return o
}

package directory

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Object is a JSON object whose keys keep their order, and whose values the bytes that they were
// read with, so that no number is rounded.
type Object struct {
	keys []key
}

type key struct {
	name  string
	value json.RawMessage
}

// ParseObject reads a JSON object.
func ParseObject(data []byte) (*Object, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if tok, err := d.Token(); err != nil {
		return nil, err
	} else if tok != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	o := &Object{}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		k := key{name: tok.(string)} // the decoder accepts only strings as keys
		if err := d.Decode(&k.value); err != nil {
			return nil, err
		}
		o.keys = append(o.keys, k)
	}
	_, err := d.Token()
	return o, err
}

// Set sets a key to a value, at its place or at the end. One that has the value already keeps its
// bytes. A value that cannot be encoded is a bug.
func (o *Object) Set(name string, value any) {
	data := encode(value)
	i := o.index(name)
	switch {
	case i < 0:
		o.keys = append(o.keys, key{name, data})
	case !equal(o.keys[i].value, data):
		o.keys[i].value = data
	}
}

// equal reports whether two JSON texts have the same value.
func equal(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// Float is a number that has a decimal point or an exponent in JSON, as the floats of Python have.
type Float float64

// MarshalJSON returns the shortest text that stands for the number.
func (f Float) MarshalJSON() ([]byte, error) {
	s := strconv.FormatFloat(float64(f), 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return []byte(s), nil
}

// SetAny sets the first of the names that the object has, and the last one if it has none.
func (o *Object) SetAny(value any, names ...string) {
	for _, name := range names {
		if o.index(name) >= 0 {
			o.Set(name, value)
			return
		}
	}
	o.Set(names[len(names)-1], value)
}

// Delete removes a key, if the object has it.
func (o *Object) Delete(name string) {
	o.keys = slices.DeleteFunc(o.keys, func(k key) bool { return k.name == name })
}

func (o *Object) index(name string) int {
	return slices.IndexFunc(o.keys, func(k key) bool { return k.name == name })
}

// MarshalJSON returns the object without white space around its keys.
func (o *Object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, k := range o.keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, encode(k.name)...), ':')
		b = append(b, k.value...)
	}
	return append(b, '}'), nil
}

// Encode returns the object as a file, indented by two spaces.
func (o *Object) Encode() []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, encode(o), "", "  "); err != nil {
		panic(err) // its values are JSON
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// encode is json.Marshal without HTML escapes.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"afmq/pkg/chat/internal/jinja"
)

// maxNesting is how deep arrays and objects of messages and tools may be nested.
const maxNesting = 200

// objectFields splits a JSON object into its keys, in order; a later value of a key replaces an
// earlier one in its place, as in Python.
func objectFields(data []byte) ([]Field, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("it is of another type")
	}
	var out []Field
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		var f Field
		f.Name, _ = t.(string)
		if err := d.Decode(&f.Value); err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(out, func(o Field) bool { return o.Name == f.Name }); i >= 0 {
			out[i] = f
		} else {
			out = append(out, f)
		}
	}
	_, err := d.Token()
	return out, err
}

// decode makes a template's value of JSON. Objects keep the order of their keys.
func decode(raw []byte) (jinja.Value, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := decodeNext(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

func decodeNext(d *json.Decoder, depth int) (jinja.Value, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	if depth > maxNesting {
		return nil, fmt.Errorf("arrays and objects are nested deeper than %d", maxNesting)
	}
	switch t := t.(type) {
	case json.Number:
		return number(string(t))
	case json.Delim:
		if t == '[' {
			list := &jinja.List{}
			for d.More() {
				v, err := decodeNext(d, depth+1)
				if err != nil {
					return nil, err
				}
				list.Items = append(list.Items, v)
			}
			_, err := d.Token()
			return list, err
		}
		dict := jinja.NewDict()
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeNext(d, depth+1)
			if err != nil {
				return nil, err
			}
			dict.Set(key.(string), v)
		}
		_, err := d.Token()
		return dict, err
	}
	return t, nil // nil, bool or string
}

// number decodes a number as Python does: an integer of any size unless it has a point or an
// exponent.
func number(s string) (jinja.Value, error) {
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		if errors.Is(err, strconv.ErrRange) {
			err = nil // infinite, or nearest to zero
		}
		return f, err
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || len(s) > 4300 { // Python's limit of digits
		return nil, fmt.Errorf("the number %.20s… cannot be read", s)
	}
	return n, nil
}

// variable makes a template's value of a Go value: nil, a bool, an integer, a float, a string,
// [json.RawMessage], or anything that encoding/json encodes.
func variable(v any) (jinja.Value, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return decode(raw)
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Float32, reflect.Float64:
		return r.Float(), nil // encoding/json writes 1.0 as 1
	case reflect.String:
		return r.String(), nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return decode(raw)
}

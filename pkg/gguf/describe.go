package gguf

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"afmq/pkg/ggml"
)

// Description summarizes a file from its header.
type Description struct {
	Version      int         `json:"version"`      // of the format
	Architecture string      `json:"architecture"` // general.architecture; empty if it has none
	Name         string      `json:"name"`         // general.name; empty if it has none
	Kind         string      `json:"kind"`         // general.type: "model", "adapter"; "model" if it has none
	Bytes        int64       `json:"bytes"`        // of the file
	WeightBytes  int64       `json:"weight_bytes"` // of the tensors, without padding
	Parameters   int64       `json:"parameters"`   // elements of all tensors
	BitsPerParam float64     `json:"bits_per_parameter"`
	Types        []TypeCount `json:"types"`    // largest first
	Metadata     []KeyText   `json:"metadata"` // in the order of the file
	Tensors      []TensorRow `json:"tensors"`  // in the order of the file
}

// TypeCount counts the tensors of one type.
type TypeCount struct {
	Type    string  `json:"type"` // ggml's name, such as "Q4_K"
	Tensors int     `json:"tensors"`
	Bytes   int64   `json:"bytes"`
	Bits    float64 `json:"bits"` // for each element; 0 without elements
}

// KeyText is a key with its value as text.
type KeyText struct {
	Key   string `json:"key"`
	Type  string `json:"type"`  // of the value: "uint32", "string", "array of string"
	Value string `json:"value"` // the first characters; of an array the number of its elements
}

// TensorRow is a tensor of a [Description].
type TensorRow struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Shape []int  `json:"shape"` // row-major
	Bytes int64  `json:"bytes"`
}

// longestValue is the number of bytes of a value that Describe keeps.
const longestValue = 200

// Describe summarizes the file.
func (f *File) Describe() *Description {
	d := &Description{Version: f.Version(), Kind: "model", Bytes: f.Bytes(), Types: []TypeCount{}, Metadata: []KeyText{}, Tensors: []TensorRow{}}
	for key, to := range map[string]*string{"general.architecture": &d.Architecture, "general.name": &d.Name, "general.type": &d.Kind} {
		if s, err := Get[string](f, key); err == nil {
			*to = s
		}
	}
	for _, kv := range f.Metadata() {
		kind, value := describeValue(kv.Value)
		d.Metadata = append(d.Metadata, KeyText{kv.Key, kind, value})
	}
	counts := map[ggml.Type]*TypeCount{}
	elements := map[ggml.Type]int64{}
	for _, t := range f.Tensors() {
		n := int64(t.Rows()) * int64(t.Columns())
		d.Parameters += n
		d.WeightBytes += t.Bytes()
		d.Tensors = append(d.Tensors, TensorRow{t.Name, t.Type.String(), append([]int{}, t.Shape...), t.Bytes()})
		c := counts[t.Type]
		if c == nil {
			c = &TypeCount{Type: t.Type.String()}
			counts[t.Type] = c
		}
		c.Tensors++
		c.Bytes += t.Bytes()
		elements[t.Type] += n
	}
	for t, c := range counts {
		if n := elements[t]; n > 0 {
			c.Bits = 8 * float64(c.Bytes) / float64(n)
		}
		d.Types = append(d.Types, *c)
	}
	slices.SortFunc(d.Types, func(a, b TypeCount) int {
		if a.Bytes != b.Bytes {
			return int(min(1, max(-1, b.Bytes-a.Bytes)))
		}
		return strings.Compare(a.Type, b.Type)
	})
	if d.Parameters > 0 {
		d.BitsPerParam = 8 * float64(d.WeightBytes) / float64(d.Parameters)
	}
	return d
}

// describeValue returns the type and the text of a value.
func describeValue(v any) (kind, text string) {
	r := reflect.ValueOf(v)
	if r.Kind() != reflect.Slice {
		text = fmt.Sprint(v)
		if len(text) > longestValue {
			text = strings.ToValidUTF8(text[:longestValue], "") + "…"
		}
		return r.Type().String(), text
	}
	kind = r.Type().Elem().String()
	if r.Type().Elem().Kind() == reflect.Interface {
		kind = "array"
	}
	return "array of " + kind, fmt.Sprintf("%d elements", r.Len())
}

package model

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// SameTokenizer returns an error unless the tokenizer.json files in both model directories are
// equivalent, which a comparison token by token requires. White space, the order of keys,
// truncation and padding do not matter. Errors are of kind [fault.Input].
func SameTokenizer(model, reference string) error {
	a, err := tokenizerMembers(model)
	if err != nil {
		return err
	}
	b, err := tokenizerMembers(reference)
	if err != nil {
		return err
	}
	if !sameMembers(a, b, 0) {
		return fault.Inputf(filepath.Join(reference, "tokenizer.json"), "differs from the tokenizer of %s", model)
	}
	return nil
}

// maxTokenizerBytes is the size of the largest tokenizer.json that is read; large ones have about
// 30 MB.
const maxTokenizerBytes = 512 << 20

// tokenizerMembers returns the members of a tokenizer.json that determine the tokens of a text.
func tokenizerMembers(dir string) (map[string]json.RawMessage, error) {
	path := filepath.Join(dir, "tokenizer.json")
	data, err := infile.Read(path, maxTokenizerBytes)
	if err != nil {
		if _, err := ReadConfigFile(dir); err != nil {
			return nil, err // dir is no model, which explains more
		}
		return nil, err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fault.Inputf(path, "is not JSON: %v", err)
	}
	delete(m, "truncation")
	delete(m, "padding")
	return m, nil
}

// sameDepth is the depth to which objects are compared key by key, below which only white space
// may differ. Each level takes the memory of its text again, and a tokenizer has about six.
const sameDepth = 16

func sameMembers(a, b map[string]json.RawMessage, depth int) bool {
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		other, ok := b[key]
		if !ok || !sameJSON(value, other, depth+1) {
			return false
		}
	}
	return true
}

// sameJSON reports whether two valid JSON texts have the same value. Numbers are equal if their
// digits are.
func sameJSON(a, b json.RawMessage, depth int) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y bytes.Buffer
	if json.Compact(&x, a) != nil || json.Compact(&y, b) != nil {
		return false
	}
	if bytes.Equal(x.Bytes(), y.Bytes()) {
		return true
	}
	if depth > sameDepth || x.Bytes()[0] != y.Bytes()[0] {
		return false
	}
	switch x.Bytes()[0] {
	case '{':
		var m, n map[string]json.RawMessage
		return json.Unmarshal(x.Bytes(), &m) == nil && json.Unmarshal(y.Bytes(), &n) == nil && sameMembers(m, n, depth)
	case '[':
		var m, n []json.RawMessage
		return json.Unmarshal(x.Bytes(), &m) == nil && json.Unmarshal(y.Bytes(), &n) == nil &&
			slices.EqualFunc(m, n, func(a, b json.RawMessage) bool { return sameJSON(a, b, depth+1) })
	case '"':
		var s, t string // they may differ in escapes
		return json.Unmarshal(x.Bytes(), &s) == nil && json.Unmarshal(y.Bytes(), &t) == nil && s == t
	}
	return false
}

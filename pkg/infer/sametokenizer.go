package infer

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"

	"afmq/internal/fault"
	"afmq/internal/infile"
)

// SameTokenizer returns an error unless the tokenizer.json files of both models
// mean the same: comparing models token by token makes sense only then. Layout,
// truncation and padding do not matter.
func SameTokenizer(model, reference string) error {
	a, err := tokenizerMeaning(model)
	if err != nil {
		return err
	}
	b, err := tokenizerMeaning(reference)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(a, b) {
		return fault.Inputf(filepath.Join(reference, "tokenizer.json"), "is another tokenizer than that of %s", model)
	}
	return nil
}

// maxTokenizerBytes bounds a tokenizer.json; large ones have some 30 MB.
const maxTokenizerBytes = 512 << 20

func tokenizerMeaning(dir string) (map[string]any, error) {
	path := filepath.Join(dir, "tokenizer.json")
	data, err := infile.Read(path, maxTokenizerBytes)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return nil, fault.Inputf(path, "is not JSON: %v", err)
	}
	delete(v, "truncation")
	delete(v, "padding")
	return v, nil
}

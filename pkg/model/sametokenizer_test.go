package model

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSameTokenizer(t *testing.T) {
	const one = `{"version":"1.0","truncation":{"max_length":5},"model":{"vocab":{"a":0,"\u00e9":1},"merges":[["a","b"],["c","d"]]},"n":1}`
	for other, same := range map[string]bool{
		one: true,
		`{"model": {"merges": [["a", "b"], ["c", "d"]], "vocab": {"é": 1, "a": 0}}, "version": "1.0", "n": 1, "padding": null}`: true,
		`{"version":"1.\u0030","model":{"vocab":{"\u0061":0,"é":1},"merges":[["a","b"],["c","d"]]},"n":1}`:                      true,
		`{"version":"1.0","model":{"vocab":{"a":1,"é":0},"merges":[["a","b"],["c","d"]]},"n":1}`:                                false,
		`{"version":"1.0","model":{"vocab":{"a":0,"é":1},"merges":[["c","d"],["a","b"]]},"n":1}`:                                false,
		`{"version":"1.0","model":{"vocab":{"a":0,"é":1},"merges":[["a","b"]]},"n":1}`:                                          false,
		`{"version":"1.0","model":{"vocab":{"a":0,"é":1},"merges":[["a","b"],["c","d"]]},"n":1,"m":null}`:                       false,
		`{"version":"1.0","model":null,"n":1}`:                                                                                  false,
		`{}`:                                                                                                                    false,
	} {
		a, b := t.TempDir(), t.TempDir()
		for dir, text := range map[string]string{a: one, b: other} {
			if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range []error{SameTokenizer(a, b), SameTokenizer(b, a)} {
			if (err == nil) != same {
				t.Errorf("%s: %v", other, err)
			}
		}
	}
}

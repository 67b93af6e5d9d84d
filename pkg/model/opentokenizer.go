package model

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"afmq/pkg/fault"
	"afmq/pkg/tokenizer"
)

// OpenTokenizer reads dir/tokenizer.json and checks that the embedding has a row for every token
// id. More rows than ids are padding. Errors are of kind [fault.Input].
func OpenTokenizer(dir string, cfg *Config) (*tokenizer.Tokenizer, error) {
	path := filepath.Join(dir, "tokenizer.json")
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) { // Lstat: a dangling link is another error
		return nil, fault.Inputf(path, "is missing").
			WithHint("transformers writes it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)")
	}
	t, err := tokenizer.Load(path)
	if err != nil {
		return nil, err
	}
	if id := t.MaxID(); int(id) >= cfg.VocabSize {
		token, _ := t.Token(id)
		return nil, fault.Inputf(path, "token %q has id %d, but the embedding has %d rows (vocab_size in config.json)", token, id, cfg.VocabSize)
	}
	return t, nil
}

package model

import (
	"path/filepath"

	"afmq/pkg/fault"
	"afmq/pkg/tokenizer"
)

// OpenTokenizer reads dir/tokenizer.json and checks that every id it can emit
// has a row in the embedding. Fewer ids than rows is normal padding.
func OpenTokenizer(dir string, cfg *Config) (*tokenizer.Tokenizer, error) {
	path := filepath.Join(dir, "tokenizer.json")
	t, err := tokenizer.Load(path)
	if err != nil {
		return nil, err
	}
	if id := t.MaxID(); int(id) >= cfg.VocabSize {
		token, _ := t.Token(id)
		return nil, fault.Inputf(path, "token %q has id %d, but config.json gives the embedding only %d rows (vocab_size)", token, id, cfg.VocabSize)
	}
	return t, nil
}

package chat

import (
	"path/filepath"

	"afmq/internal/infile"
	"afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
)

// OpenFile reads the chat template in a file for the model at path, a checkpoint's directory or a
// GGUF file, whose special tokens it gets. The model's own template is not read. Errors are of
// kind [fault.Input].
func OpenFile(path, file string) (*Template, error) {
	data, err := infile.Read(file, maxTemplate)
	if err != nil {
		return nil, err
	}
	special, err := specialTokensOf(path)
	if err != nil {
		return nil, err
	}
	return Parse(file, string(data), special)
}

// specialTokensOf returns the special tokens of the model at path.
func specialTokensOf(path string) (map[string]string, error) {
	if !ggufmodel.Is(path) {
		config, err := readObject(filepath.Join(path, "tokenizer_config.json"))
		if err != nil {
			return nil, err
		}
		return specialTokens(path, config)
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ggufmodel.SpecialTokens(f)
}

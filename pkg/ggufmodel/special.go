package ggufmodel

import (
	"afmq/pkg/gguf"
)

// specialKeys are llama.cpp's names of special tokens and those of transformers.
var specialKeys = [][2]string{
	{"bos", "bos_token"}, {"eos", "eos_token"}, {"unknown", "unk_token"}, {"seperator", "sep_token"},
	{"padding", "pad_token"}, {"cls", "cls_token"}, {"mask", "mask_token"},
}

// SpecialTokens returns the texts of the special tokens that the keys of a file name, under the
// names that transformers gives them: "bos_token", "eos_token" and so on. A token that no key
// names is missing. Errors are of kind [fault.Input].
func SpecialTokens(f *gguf.File) (map[string]string, error) {
	k := &keys{file: f, prefix: "tokenizer.ggml."}
	if !k.has("tokens") {
		return nil, nil
	}
	tokens, err := gguf.Get[[]string](f, k.prefix+"tokens")
	if err != nil {
		return nil, err
	}
	special := map[string]string{}
	for _, key := range specialKeys {
		if id, ok := k.id(key[0]+"_token_id", len(tokens)); ok {
			special[key[1]] = tokens[id]
		}
	}
	return special, k.err
}

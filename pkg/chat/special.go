package chat

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"afmq/pkg/fault"
)

// standard are the special tokens that every tokenizer of transformers may have.
var standard = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// specialTokens returns the tokens that templates get as variables: the standard ones of
// tokenizer_config.json, its other keys that end in _token and are strings, and the object
// extra_special_tokens. special_tokens_map.json replaces them where the configuration lists no
// tokens (added_tokens_decoder), as files of older versions.
func specialTokens(dir string, config map[string]json.RawMessage) (map[string]string, error) {
	special := map[string]string{}
	path := filepath.Join(dir, "tokenizer_config.json")
	if err := addSpecial(special, path, config); err != nil {
		return nil, err
	}
	if _, listed := config["added_tokens_decoder"]; listed {
		return special, nil
	}
	path = filepath.Join(dir, "special_tokens_map.json")
	legacy, err := readObject(path)
	if err != nil {
		return nil, err
	}
	return special, addSpecial(special, path, legacy)
}

func addSpecial(special map[string]string, path string, config map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(config)) {
		raw := config[name]
		token, ok := tokenText(raw)
		switch {
		case slices.Contains(standard, name):
			if !ok && string(raw) != "null" {
				return fault.Inputf(path, "%s is neither a string nor an object with content", name)
			}
		case strings.HasSuffix(name, "_token"):
			ok = ok && raw[0] == '"'
		default:
			continue
		}
		if ok {
			special[name] = token
		} else {
			delete(special, name)
		}
	}
	var extra map[string]json.RawMessage
	if json.Unmarshal(config["extra_special_tokens"], &extra) != nil {
		return nil // missing, or a list of tokens without names
	}
	for name, raw := range extra {
		if token, ok := tokenText(raw); ok {
			special[name] = token
		}
	}
	return nil
}

// tokenText returns the text of a token: a string, or an object with content.
func tokenText(raw json.RawMessage) (string, bool) {
	var text string
	if string(raw) != "null" && json.Unmarshal(raw, &text) == nil {
		return text, true
	}
	var object struct {
		Content *string `json:"content"`
	}
	if json.Unmarshal(raw, &object) == nil && object.Content != nil {
		return *object.Content, true
	}
	return "", false
}

package gguf

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
)

// tokenizerConfig has the keys of tokenizer_config.json that are used.
type tokenizerConfig struct {
	BOS      json.RawMessage `json:"bos_token"`
	EOS      json.RawMessage `json:"eos_token"`
	UNK      json.RawMessage `json:"unk_token"`
	PAD      json.RawMessage `json:"pad_token"`
	Template json.RawMessage `json:"chat_template"`
}

// readJSON reads a file of the artifact into dst. It reports whether there is one.
func (v *vocabulary) readJSON(name string, dst any) (bool, error) {
	path := filepath.Join(v.dir, name)
	data, err := infile.Read(path, artifact.MaxCopiedBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, dst); err != nil {
		return false, fault.Inputf(path, "not valid JSON: %v", err)
	}
	return true, nil
}

// defaultEOS is the token that llama.cpp takes as the end of a text where the file names none.
var defaultEOS = map[string]int{"gpt2": 11, "llama": 2}

// special describes the special tokens. Ids of config.json take precedence over names in
// tokenizer_config.json.
func (v *vocabulary) special() error {
	var c tokenizerConfig
	if _, err := v.readJSON("tokenizer_config.json", &c); err != nil {
		return err
	}
	bos, eos := v.cfg.BOS, v.cfg.EOS
	if len(bos) == 0 {
		bos = v.named(c.BOS)
	}
	if len(eos) == 0 {
		eos = v.named(c.EOS)
	}
	switch {
	case len(v.d.Before) > 1 || len(v.d.After) > 1:
		return v.refuse("more than one token before a text and one after it (the post-processor adds %d and %d)", len(v.d.Before), len(v.d.After))
	case len(v.d.After) == 1 && len(eos) > 0 && !slices.Contains(eos, v.d.After[0]):
		token, _ := v.t.Token(v.d.After[0])
		return v.refuse("a token after a text other than that of the end of a sequence (the post-processor adds %q)", token)
	}
	if len(v.d.Before) == 1 {
		bos = v.d.Before
	}
	if len(v.d.After) == 1 { // the one that is added comes first
		eos = append(slices.Clone(v.d.After), slices.DeleteFunc(slices.Clone(eos), func(id int32) bool { return id == v.d.After[0] })...)
	}
	unknown := v.named(c.UNK)
	if v.d.Unknown >= 0 {
		unknown = []int32{v.d.Unknown}
	}
	// llama.cpp ends a text at each of these three.
	for i, key := range []string{"eos", "eot", "eom"} {
		if i < len(eos) {
			v.add("ggml."+key+"_token_id", uint32(eos[i]))
		}
	}
	switch {
	case len(eos) == 0:
		v.note("the model names no token that ends a text; llama.cpp takes token %d", defaultEOS[v.model])
	case len(eos) > 3:
		v.note("llama.cpp reads 3 tokens that end a text; the model has %d", len(eos))
	}
	for _, x := range []struct {
		key string
		ids []int32
	}{{"bos", bos}, {"unknown", unknown}, {"padding", v.named(c.PAD)}} {
		if len(x.ids) > 0 {
			v.add("ggml."+x.key+"_token_id", uint32(x.ids[0]))
		}
	}
	v.add("ggml.add_bos_token", len(v.d.Before) == 1)
	v.add("ggml.add_eos_token", len(v.d.After) == 1)
	return nil
}

// named returns the id of a token that tokenizer_config.json names, by its text or by an object
// with its text; none if there is no such token.
func (v *vocabulary) named(raw json.RawMessage) []int32 {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		var object struct {
			Content string `json:"content"`
		}
		if json.Unmarshal(raw, &object) != nil {
			return nil
		}
		text = object.Content
	}
	id, ok := v.t.TokenID(text)
	if !ok || text == "" || int(id) >= v.cfg.VocabSize {
		return nil
	}
	return []int32{id}
}

// template adds the chat templates: of chat_template.jinja, chat_template.json or
// tokenizer_config.json, the first that exists. A list of templates has one named "default".
func (v *vocabulary) template() error {
	path := filepath.Join(v.dir, "chat_template.jinja")
	data, err := infile.Read(path, artifact.MaxCopiedBytes)
	if err == nil {
		v.add("chat_template", string(data))
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{"chat_template.json", "tokenizer_config.json"} {
		var c tokenizerConfig
		if _, err := v.readJSON(name, &c); err != nil {
			return err
		}
		if len(c.Template) == 0 || string(c.Template) == "null" {
			continue
		}
		var one string
		if json.Unmarshal(c.Template, &one) == nil {
			v.add("chat_template", one)
			return nil
		}
		return v.templates(filepath.Join(v.dir, name), c.Template)
	}
	return nil
}

// templates adds a list of named templates.
func (v *vocabulary) templates(path string, raw json.RawMessage) error {
	var list []struct {
		Name     string `json:"name"`
		Template string `json:"template"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return fault.Inputf(path, "chat_template is neither a string nor a list of names and templates")
	}
	var names []string
	for _, x := range list {
		if slices.Contains(names, x.Name) {
			return fault.Inputf(path, "chat_template has two templates of the name %q", x.Name)
		}
		names = append(names, x.Name)
		if x.Name == "default" {
			v.add("chat_template", x.Template)
		} else {
			v.add("chat_template."+x.Name, x.Template)
		}
	}
	if others := slices.DeleteFunc(names, func(s string) bool { return s == "default" }); len(others) > 0 {
		v.add("chat_templates", others)
	}
	return nil
}

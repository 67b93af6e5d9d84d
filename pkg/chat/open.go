package chat

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"afmq/internal/infile"
	"afmq/pkg/fault"
)

// maxConfig is the largest tokenizer_config.json that is read, in bytes.
const maxConfig = 64 << 20

// Open reads the chat template of a checkpoint's directory, and its special tokens, as
// transformers does: chat_template.jinja is the template "default" and each file
// additional_chat_templates/NAME.jinja the template NAME; only without such files it is
// chat_template in tokenizer_config.json, one template or a list of named ones.
//
// Errors are of kind [fault.Input]. If there is no template, the error is [ErrNoTemplate].
func Open(dir string) (*Template, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fault.Reading(dir, err)
	}
	config, err := readObject(filepath.Join(dir, "tokenizer_config.json"))
	if err != nil {
		return nil, err
	}
	templates, err := templateFiles(dir)
	if err != nil {
		return nil, err
	}
	if len(templates) == 0 {
		path := filepath.Join(dir, "tokenizer_config.json")
		if templates, err = configTemplates(path, config["chat_template"]); err != nil {
			return nil, err
		}
	}
	if len(templates) == 0 {
		return nil, noTemplate(dir)
	}
	special, err := specialTokens(dir, config)
	if err != nil {
		return nil, err
	}
	return build(dir, templates, special)
}

func noTemplate(path string) error {
	return (&fault.Error{Kind: fault.Input, File: path, Msg: "a conversation cannot be rendered", Err: ErrNoTemplate}).
		WithHint("base models have none: give a prompt, or the template in a file (--chat-template, or chat_template.jinja in the directory)")
}

// templateFiles reads chat_template.jinja and additional_chat_templates/*.jinja.
func templateFiles(dir string) (map[string]*named, error) {
	templates := map[string]*named{}
	add := func(name, path string) error {
		data, err := infile.Read(path, maxTemplate)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			templates[name] = &named{file: path, source: string(data)}
		}
		return err
	}
	if err := add(defaultName, filepath.Join(dir, "chat_template.jinja")); err != nil {
		return nil, err
	}
	// A pattern with the directory in it would give its characters a meaning.
	names, err := fs.Glob(os.DirFS(dir), "additional_chat_templates/*.jinja")
	if err != nil {
		return nil, fault.Reading(dir, err)
	}
	slices.Sort(names)
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := add(strings.TrimSuffix(filepath.Base(path), ".jinja"), path); err != nil {
			return nil, err
		}
	}
	return templates, nil
}

// configTemplates reads the key chat_template: a template, or a list of names and templates.
func configTemplates(path string, raw json.RawMessage) (map[string]*named, error) {
	templates := map[string]*named{}
	if len(raw) == 0 || string(raw) == "null" {
		return templates, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		if one != "" {
			templates[defaultName] = &named{file: path, source: one}
		}
		return templates, nil
	}
	var list []struct {
		Name     *string `json:"name"`
		Template *string `json:"template"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return nil, fault.Inputf(path, "chat_template is neither a string nor a list of names and templates")
	}
	for i, x := range list {
		if x.Name == nil || x.Template == nil {
			return nil, fault.Inputf(path, "chat_template[%d] lacks a name or a template", i)
		}
		templates[*x.Name] = &named{file: path, source: *x.Template}
	}
	return templates, nil
}

// readObject reads a JSON object; nil if there is no such file.
func readObject(path string) (map[string]json.RawMessage, error) {
	data, err := infile.Read(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fault.Inputf(path, "is not a JSON object: %v", err)
	}
	return object, nil
}

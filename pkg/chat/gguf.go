package chat

import (
	"afmq/pkg/fault"
	"afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
)

// OpenGGUF reads the chat templates of a GGUF file; see [FromGGUF].
func OpenGGUF(path string) (*Template, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return FromGGUF(f)
}

// FromGGUF reads the chat templates of an open GGUF file: the key tokenizer.chat_template is the
// template "default", and each name in tokenizer.chat_templates has a key
// tokenizer.chat_template.NAME. Errors are of kind [fault.Input]; without a template the error is
// [ErrNoTemplate].
func FromGGUF(f *gguf.File) (*Template, error) {
	templates := map[string]*named{}
	add := func(name, key string) error {
		v, ok := f.Value(key)
		if !ok {
			return nil
		}
		s, ok := v.(string)
		if !ok {
			return fault.Inputf(f.Path(), "key %q is a %T; expected a string", key, v)
		}
		if s != "" {
			templates[name] = &named{file: f.Path(), source: s}
		}
		return nil
	}
	const key = "tokenizer.chat_template"
	if err := add(defaultName, key); err != nil {
		return nil, err
	}
	if _, ok := f.Value(key + "s"); ok {
		names, err := gguf.Get[[]string](f, key+"s")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if err := add(name, key+"."+name); err != nil {
				return nil, err
			}
		}
	}
	if len(templates) == 0 {
		return nil, noTemplate(f.Path())
	}
	special, err := ggufmodel.SpecialTokens(f)
	if err != nil {
		return nil, err
	}
	return build(f.Path(), templates, special)
}

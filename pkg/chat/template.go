package chat

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"afmq/pkg/chat/internal/jinja"
	"afmq/pkg/fault"
)

// ErrNoTemplate is in the errors of [Open], [OpenGGUF] and [FromGGUF] if there is no chat
// template.
var ErrNoTemplate = errors.New("there is no chat template")

// The names of templates that transformers chooses by itself.
const (
	defaultName = "default"
	toolUse     = "tool_use"
)

// Template is the chat template of a model, or several of which each has a name. It does not
// change; any number of goroutines may render it.
type Template struct {
	file    string
	named   map[string]*named
	special map[string]string
}

type named struct {
	file   string
	source string
	tree   *jinja.Template
	err    error // why there is no tree
}

// Parse reads a single template. The name is that of its file, for errors; special are the
// special tokens that the template may use: "bos_token", "eos_token" and so on. Errors are of
// kind [fault.Input].
func Parse(name, source string, special map[string]string) (*Template, error) {
	return build(name, map[string]*named{defaultName: {file: name, source: source}}, special)
}

// build parses templates. An error in one fails if it is used without tools; the others' errors
// are returned when they are used.
func build(file string, templates map[string]*named, special map[string]string) (*Template, error) {
	t := &Template{file, templates, maps.Clone(special)}
	for _, n := range templates {
		if len(n.source) > maxTemplate {
			n.err = fault.Inputf(n.file, "the chat template has %d bytes; at most %d are read", len(n.source), maxTemplate)
			continue
		}
		var err error
		if n.tree, err = jinja.Parse(n.source); err != nil {
			n.err = n.fault(err)
		}
	}
	if n, ok := templates[defaultName]; ok && n.err != nil {
		return nil, n.err
	}
	return t, nil
}

// maxTemplate is the largest template that is read, in bytes. Real ones have up to 40,000.
const maxTemplate = 1 << 20

// Names returns the names of the templates, in order. A single one is "default".
func (t *Template) Names() []string { return slices.Sorted(maps.Keys(t.named)) }

// Source returns the text of the template of a name.
func (t *Template) Source(name string) (string, bool) {
	n, ok := t.named[name]
	if !ok {
		return "", false
	}
	return n.source, true
}

// choose returns the template of a name, or without one that which transformers takes.
func (t *Template) choose(name string, tools bool) (*named, error) {
	if name != "" {
		if n, ok := t.named[name]; ok {
			return n, n.err
		}
		return nil, fault.Usagef("there is no chat template %q; there are %q", name, t.Names())
	}
	if n, ok := t.named[toolUse]; ok && tools {
		return n, n.err
	}
	if n, ok := t.named[defaultName]; ok {
		return n, n.err
	}
	return nil, fault.Inputf(t.file, "has chat templates %q and none with the name %q", t.Names(), defaultName).
		WithHint("choose one by its name")
}

// fault classifies an error of package jinja.
func (n *named) fault(err error) error {
	var e *jinja.Error
	if !errors.As(err, &e) {
		return fault.Reading(n.file, err)
	}
	if e.Kind == jinja.Raised {
		return fault.Usagef("the chat template refuses the conversation: %s", e.Msg)
	}
	place := "chat template"
	if e.Line > 0 {
		place = fmt.Sprintf("chat template, line %d", e.Line)
	}
	f := fault.Inputf(n.file, "%s: %s", place, e.Msg)
	switch e.Kind {
	case jinja.Refused:
		return f.WithHint("docs/chat.md lists what chat templates may use")
	case jinja.Failed:
		return f.WithHint("the template does not fit the messages, or lacks a variable; transformers fails on it too")
	}
	return f
}

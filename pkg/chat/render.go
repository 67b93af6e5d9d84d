package chat

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"afmq/pkg/chat/internal/jinja"
	"afmq/pkg/fault"
)

// RenderOptions are the arguments of apply_chat_template. The zero value renders the messages
// alone.
type RenderOptions struct {
	// Tools are the tools that the model may call: JSON objects, in OpenAI's format
	// {"type": "function", "function": {...}} for most templates. They keep the order of their
	// keys. Nil is no tools; an empty list chooses the template for tools as well.
	Tools []json.RawMessage
	// AddGenerationPrompt appends what begins an assistant's message.
	AddGenerationPrompt bool
	// ContinueFinalMessage ends the text with the content of the last message, for the model to
	// continue it.
	ContinueFinalMessage bool
	// ParseArguments decodes the arguments of tool calls that are strings of JSON, as OpenAI's
	// format has them, into objects, which most templates expect. transformers passes them as
	// they are.
	ParseArguments bool
	// Variables are further variables of the template, such as "enable_thinking". Values are
	// what encoding/json encodes; [json.RawMessage] keeps the order of keys.
	Variables map[string]any
	// Template is the name of the template to use; empty is "tool_use" if there are tools and
	// such a template, else "default".
	Template string
	// Now is the time for strftime_now, as it is in its location; the zero time is [time.Now].
	Now time.Time
}

// Render returns the prompt of a conversation. The result depends on nothing else than the
// template and the arguments, if Now is given.
//
// An error is of kind [fault.Usage] if the template refuses the conversation or an option is
// invalid, and of kind [fault.Input] if the template fails, uses what is not supported, or
// exceeds a budget.
func (t *Template) Render(messages []Message, o RenderOptions) (string, error) {
	if len(messages) == 0 {
		return "", fault.Usagef("the conversation has no messages")
	}
	if o.ContinueFinalMessage && o.AddGenerationPrompt {
		return "", fault.Usagef("a final message cannot be continued with a generation prompt after it")
	}
	n, err := t.choose(o.Template, o.Tools != nil)
	if err != nil {
		return "", err
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	text, fits, err := t.render(n, messages, o)
	if fits || errors.As(err, new(*fault.Error)) {
		return text, err
	}
	// The template does not read lists of parts. Their texts are joined.
	joined := slices.Clone(messages)
	for i, m := range joined {
		if m.Parts != nil {
			joined[i].Content, joined[i].Parts = strings.Join(m.Parts, "\n"), nil
			if m.keys == nil {
				joined[i].keys = []string{"role", "content"}
			}
		}
	}
	text, _, err = t.render(n, joined, o)
	var j *jinja.Error
	if errors.As(err, &j) {
		return "", n.fault(err)
	}
	return text, err
}

// render renders the messages as they are. It also says whether the result can be taken: a
// template that prints a list of parts, or does not read one, or fails with one, does not.
func (t *Template) render(n *named, messages []Message, o RenderOptions) (text string, fits bool, err error) {
	c := &conversation{options: o}
	vars, err := c.variables(messages, t.special)
	if err != nil {
		return "", true, err
	}
	if o.ContinueFinalMessage {
		if err := c.tagFinal(n.source); err != nil {
			return "", true, err
		}
	}
	text, err = n.tree.Render(vars, o.Now, c.size)
	for _, w := range c.lists {
		if err != nil || w.Printed || !w.Read {
			return "", false, err
		}
	}
	if err != nil {
		return "", true, n.fault(err)
	}
	if o.ContinueFinalMessage {
		text, err = c.cutFinal(text)
	}
	return text, true, err
}

// conversation makes the variables of one rendering.
type conversation struct {
	options RenderOptions
	size    int // bytes of JSON
	lists   []*jinja.Watch
	last    *jinja.Dict // the last message
	final   string      // its content, if it is continued
}

func (c *conversation) variables(messages []Message, special map[string]string) (*jinja.Dict, error) {
	vars := jinja.NewDict()
	for _, name := range slices.Sorted(maps.Keys(special)) {
		vars.Set(name, special[name])
	}
	vars.Set("documents", nil)
	for _, name := range slices.Sorted(maps.Keys(c.options.Variables)) {
		if name == "messages" || name == "tools" || name == "add_generation_prompt" {
			return nil, fault.Usagef("the variable %q of a chat template is not for callers to set", name)
		}
		v, err := variable(c.options.Variables[name])
		if err != nil {
			return nil, fault.Usagef("variable %q of the chat template: %v", name, err)
		}
		vars.Set(name, v)
	}
	list := &jinja.List{}
	for i, m := range messages {
		d, err := c.message(m)
		if err != nil {
			return nil, fault.Usagef("message %d: %v", i+1, err)
		}
		list.Items = append(list.Items, d)
		c.last = d
	}
	vars.Set("messages", list)
	vars.Set("tools", nil)
	if c.options.Tools != nil {
		tools := &jinja.List{}
		for i, raw := range c.options.Tools {
			v, err := decode(raw)
			if _, ok := v.(*jinja.Dict); !ok {
				return nil, fault.Usagef("tool %d is not a JSON object", i+1)
			}
			if err != nil {
				return nil, fault.Usagef("tool %d: %v", i+1, err)
			}
			c.size += len(raw)
			tools.Items = append(tools.Items, v)
		}
		vars.Set("tools", tools)
	}
	vars.Set("add_generation_prompt", c.options.AddGenerationPrompt)
	return vars, nil
}

// message makes the dict of a message, as transformers does.
func (c *conversation) message(m Message) (*jinja.Dict, error) {
	fields, err := m.fields()
	if err != nil {
		return nil, err
	}
	plain := jinja.NewDict()
	for _, f := range fields {
		c.size += len(f.Value)
		v, err := decode(f.Value)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		if list, ok := v.(*jinja.List); ok && f.Name == "content" {
			list.Watch = &jinja.Watch{}
			c.lists = append(c.lists, list.Watch)
		}
		if f.Name == "tool_calls" && c.options.ParseArguments {
			parseArguments(v)
		}
		plain.Set(f.Name, v)
	}
	return aliasReasoning(plain), nil
}

// aliasReasoning passes reasoning under the names that templates read.
func aliasReasoning(plain *jinja.Dict) *jinja.Dict {
	for _, name := range []string{"reasoning_content", "thinking", "reasoning"} {
		reasoning, ok := plain.Get(name)
		if !ok {
			continue
		}
		d := jinja.NewDict()
		d.Set("thinking", reasoning)
		plain.Each(func(k, v jinja.Value) { d.Set(k.(string), v) })
		d.Set("reasoning_content", reasoning)
		return d
	}
	return plain
}

// parseArguments decodes the strings of JSON objects in tool calls.
func parseArguments(calls jinja.Value) {
	list, ok := calls.(*jinja.List)
	if !ok {
		return
	}
	for _, call := range list.Items {
		d, ok := call.(*jinja.Dict)
		if !ok {
			continue
		}
		if f, ok := d.Get("function"); ok {
			if inner, ok := f.(*jinja.Dict); ok {
				d = inner
			}
		}
		if s, ok := d.Get("arguments"); ok {
			if s, ok := s.(string); ok {
				if v, err := decode([]byte(s)); err == nil {
					if _, ok := v.(*jinja.Dict); ok {
						d.Set("arguments", v)
					}
				}
			}
		}
	}
}

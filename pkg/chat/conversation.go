package chat

import (
	"maps"
	"slices"

	"afmq/pkg/chat/internal/jinja"
	"afmq/pkg/fault"
)

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

package chat

import (
	"encoding/json"
	"errors"
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

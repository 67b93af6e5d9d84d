package main

import (
	"context"
	"slices"
	"strings"

	"afmq/pkg/eval"
)

const chatCommands = `  /adapter [NAME]   answer with an adapter from now on; without NAME with none
  /system [TEXT]    replace the system's message, and start anew
  /again            answer the last message again
  /clear            start anew
  /help             list these commands
  /exit             end the chat`

// command runs a command, and reports whether it ends the chat.
func (c *conversation) command(ctx context.Context, line string) (end bool, err error) {
	name, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch name {
	case "/again", "/clear", "/help", "/exit":
		if rest != "" {
			c.say("%s: unexpected argument %q", name, rest)
			return false, nil
		}
	}
	switch name {
	case "/adapter":
		c.useAdapter(rest)
	case "/system":
		c.start(rest)
	case "/again":
		if n := len(c.messages); n > 0 && c.messages[n-1].Role == "assistant" {
			c.messages = c.messages[:n-1]
		}
		if n := len(c.messages); n == 0 || c.messages[n-1].Role != "user" {
			c.say("there is no message to answer")
			return false, nil
		}
		return false, c.answer(ctx)
	case "/clear":
		c.start(c.system)
	case "/help":
		c.say("%s", chatCommands)
	case "/exit":
		return true, nil
	default:
		c.say("%s is not a command; /help lists them", escapeControls(name))
	}
	return false, nil
}

func (c *conversation) useAdapter(name string) {
	if name == "" {
		c.variant = nil
		return
	}
	i := slices.IndexFunc(c.variants, func(v eval.Variant) bool { return v.Name == name })
	if i < 0 {
		var names []string
		for _, v := range c.variants {
			names = append(names, v.Name)
		}
		c.say("there is no adapter %q; there are %q", name, names)
		return
	}
	c.variant = &c.variants[i]
}

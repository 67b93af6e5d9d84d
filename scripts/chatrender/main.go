// Chatrender renders conversations with package chat, for scripts/chat_parity.py. It reads one
// JSON object a line and writes one for each: the text, or the error and its class.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"afmq/pkg/chat"
	"afmq/pkg/fault"
)

type request struct {
	Dir      string            `json:"dir"`    // a checkpoint's directory, or
	Source   *string           `json:"source"` // a template and
	Special  map[string]string `json:"special"`
	Messages []chat.Message    `json:"messages"`
	Options  struct {
		Tools     []json.RawMessage          `json:"tools"`
		Prompt    bool                       `json:"add_generation_prompt"`
		Continue  bool                       `json:"continue_final_message"`
		Arguments bool                       `json:"parse_arguments"`
		Variables map[string]json.RawMessage `json:"variables"`
		Now       time.Time                  `json:"now"`
	} `json:"options"`
}

type reply struct {
	Text  string `json:"text"`
	Class string `json:"class"` // "", or of the error: "raised", "refused" or "failed"
	Error string `json:"error"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		text, err := render(in.Bytes())
		r := reply{Text: text}
		if err != nil {
			r.Error, r.Class = err.Error(), class(err)
		}
		if err := out.Encode(r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func class(err error) string {
	switch {
	case fault.KindOf(err) == fault.Usage:
		return "raised"
	case strings.HasSuffix(err.Error(), "is not supported"):
		return "refused"
	}
	return "failed"
}

func render(line []byte) (string, error) {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return "", err
	}
	var t *chat.Template
	var err error
	if r.Source != nil {
		t, err = chat.Parse("template", *r.Source, r.Special)
	} else {
		t, err = chat.Open(r.Dir)
	}
	if err != nil {
		return "", err
	}
	o := chat.RenderOptions{
		Tools: r.Options.Tools, AddGenerationPrompt: r.Options.Prompt, ContinueFinalMessage: r.Options.Continue,
		ParseArguments: r.Options.Arguments, Now: r.Options.Now, Variables: map[string]any{},
	}
	for name, v := range r.Options.Variables {
		o.Variables[name] = v
	}
	return t.Render(r.Messages, o)
}

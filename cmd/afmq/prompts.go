package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"afmq/pkg/chat"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/infer"
)

// promptFlags say what a model is to continue or to answer.
type promptFlags struct {
	text, file string
	chat       bool
	system     string
	template   string
}

func (p *promptFlags) register(f *pflag.FlagSet) {
	f.StringVar(&p.text, "prompt", "", "`TEXT` to continue")
	f.StringVar(&p.file, "prompt-file", "", "continue the text in `FILE`, without a line feed at its end; - reads standard input. Each text of a .jsonl file is a prompt of its own")
	f.BoolVar(&p.chat, "chat", false, "answer the prompt as a message of a user, by the model's chat template")
	f.StringVar(&p.system, "system", "", "with --chat: `TEXT` of the system's message")
	registerTemplate(f, &p.template)
}

func registerTemplate(f *pflag.FlagSet, file *string) {
	f.StringVar(file, "chat-template", "", "render conversations with the Jinja template in `FILE` (default: that of the model)")
}

// check checks the flags that are given together.
func (p *promptFlags) check(f *pflag.FlagSet) error {
	switch {
	case f.Changed("prompt") == f.Changed("prompt-file"):
		return fault.Usagef("expected one of --prompt and --prompt-file")
	case !p.chat && (f.Changed("system") || f.Changed("chat-template")):
		return fault.Usagef("--system and --chat-template have no meaning without --chat")
	}
	return nil
}

// maxStandardInput is the size of the largest prompt that is read from standard input.
const maxStandardInput = 1 << 30

// read returns the prompts.
func (p *promptFlags) read() ([]string, error) {
	switch p.file {
	case "":
		return []string{p.text}, nil
	case "-":
		data, err := io.ReadAll(io.LimitReader(os.Stdin, maxStandardInput+1))
		if err != nil {
			return nil, fault.Reading("standard input", err)
		}
		if len(data) > maxStandardInput {
			return nil, fault.Inputf("standard input", "has more than %d bytes", maxStandardInput)
		}
		return trimmed(eval.ParseTexts("standard input", data))
	}
	texts, _, err := eval.ReadTexts(p.file)
	if strings.EqualFold(filepath.Ext(p.file), ".jsonl") {
		return texts, err
	}
	return trimmed(texts, err)
}

// trimmed removes the line feed at the end of a text file.
func trimmed(texts []string, err error) ([]string, error) {
	for i, t := range texts {
		texts[i] = strings.TrimSuffix(strings.TrimSuffix(t, "\n"), "\r")
	}
	return texts, err
}

// encode returns the tokens of each prompt.
func (p *promptFlags) encode(m *infer.Model, path string, prompts []string) ([][]int32, error) {
	var template *chat.Template
	if p.chat {
		var err error
		if template, err = openTemplate(path, p.template); err != nil {
			return nil, err
		}
	}
	var out [][]int32
	for i, text := range prompts {
		if template != nil {
			messages := []chat.Message{{Role: "user", Content: text}}
			if p.system != "" {
				messages = append([]chat.Message{{Role: "system", Content: p.system}}, messages...)
			}
			var err error
			if text, err = template.Render(messages, chat.RenderOptions{AddGenerationPrompt: true}); err != nil {
				return nil, err
			}
		}
		if most := m.Tokenizer.MaxText(); len(text) > most {
			return nil, fault.Usagef("%s has %d bytes; the tokenizer encodes at most %d at once", ofPrompts(prompts, i), len(text), most)
		}
		// A chat template has the special tokens of the beginning itself.
		ids := m.Tokenizer.Encode(text, template == nil).IDs
		switch {
		case len(ids) == 0:
			flag := "--prompt"
			if p.file != "" {
				flag = "--prompt-file"
			}
			return nil, fault.Usagef("%s has no tokens", ofPrompts(prompts, i)).
				WithHint("give %s some text; this tokenizer adds no token of its own to an empty one", flag)
		case len(ids) >= m.Config.MaxPositions:
			return nil, fault.Infeasiblef("%s has %d tokens; the model's context of %d has no space for another", ofPrompts(prompts, i), len(ids), m.Config.MaxPositions)
		}
		out = append(out, ids)
	}
	return out, nil
}

// before returns the tokens whose text an answer continues: those of the prompt, but for a chat.
func (p *promptFlags) before(ids []int32) []int32 {
	if p.chat {
		return nil
	}
	return ids
}

// ofPrompts names a prompt in errors.
func ofPrompts(prompts []string, i int) string {
	if len(prompts) == 1 {
		return "the prompt"
	}
	return fmt.Sprintf("prompt %d", i+1)
}

// openTemplate reads the chat template of a model, or the one in a file.
func openTemplate(path, file string) (*chat.Template, error) {
	switch {
	case file != "":
		return chat.OpenFile(path, file)
	case ggufmodel.Is(path):
		return chat.OpenGGUF(path)
	}
	return chat.Open(path)
}

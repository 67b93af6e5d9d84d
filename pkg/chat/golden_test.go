package chat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"afmq/pkg/fault"
)

// outcome is what transformers makes of a conversation: a text, or an error of a class.
type outcome struct {
	Text, Class, Error string
	Joined             *outcome // with lists of parts joined
}

type goldenCase struct {
	Name     string
	Messages []Message
	Options  struct {
		Tools     []json.RawMessage
		Prompt    bool `json:"add_generation_prompt"`
		Continue  bool `json:"continue_final_message"`
		Arguments bool `json:"parse_arguments"`
		Variables map[string]json.RawMessage
		Now       time.Time
	}
}

func (c *goldenCase) options() RenderOptions {
	o := RenderOptions{
		Tools: c.Options.Tools, AddGenerationPrompt: c.Options.Prompt, ContinueFinalMessage: c.Options.Continue,
		ParseArguments: c.Options.Arguments, Now: c.Options.Now, Variables: map[string]any{},
	}
	for name, v := range c.Options.Variables {
		o.Variables[name] = v
	}
	return o
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func readCases(t testing.TB) (map[string]*goldenCase, map[string]string) {
	var file struct {
		Special map[string]string
		List    []*goldenCase
	}
	readJSON(t, "cases.json", &file)
	cases := map[string]*goldenCase{}
	for _, c := range file.List {
		cases[c.Name] = c
	}
	return cases, file.Special
}

// class is that of scripts/make_chat_fixtures.py.
func class(err error) string {
	switch {
	case err == nil:
		return ""
	case fault.KindOf(err) == fault.Usage:
		return "raised"
	case strings.HasSuffix(err.Error(), "is not supported"):
		return "refused"
	}
	return "failed"
}

// matches reports whether Render returned what transformers does, with the message of a template
// that raises.
func (o *outcome) matches(text string, err error) bool {
	if o.Class == "raised" && err != nil && !strings.HasSuffix(err.Error(), strings.ReplaceAll(o.Error, "\n", `\n`)) {
		return false
	}
	return class(err) == o.Class && text == o.Text
}

// The templates in testdata, which use the features of the families' templates, give what
// transformers gives for every conversation.
func TestGolden(t *testing.T) {
	cases, special := readCases(t)
	files, err := filepath.Glob("testdata/*.jinja")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d templates, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jinja")
		t.Run(name, func(t *testing.T) {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			template, err := Parse(file, string(source), special)
			if err != nil {
				t.Fatal(err)
			}
			var golden struct {
				List []struct {
					Case string
					outcome
				}
			}
			readJSON(t, name+".golden.json", &golden)
			if len(golden.List) != len(cases) {
				t.Fatalf("%d results for %d conversations", len(golden.List), len(cases))
			}
			for _, want := range golden.List {
				c := cases[want.Case]
				text, err := template.Render(c.Messages, c.options())
				if want.matches(text, err) || want.Joined != nil && want.Joined.matches(text, err) {
					continue
				}
				t.Errorf("%s: error %v, want class %q %q\n%s", want.Case, err, want.Class, want.Error, cmp.Diff(want.Text, text))
			}
		})
	}
}

// A template that reads lists of parts gets them; for others the parts are joined, not printed as
// lists.
func TestParts(t *testing.T) {
	lists := []Message{{Role: "user", Parts: []string{"a", "b"}}}
	for source, want := range map[string]string{
		"{% for m in messages %}{% for p in m.content %}<{{ p.type }} {{ p.text }}>{% endfor %}{% endfor %}": "<text a><text b>",
		"{{ messages[0].content[1].text }}":            "b",
		"{{ messages[0].content }}":                    "a\nb",
		"{{ 'x' ~ messages[0].content }}":              "xa\nb",
		"{{ 'x' + messages[0].content }}":              "xa\nb",
		"{{ messages[0].content | tojson }}":           `"a\nb"`,
		"{{ messages[0].content is string }}":          "True",
		"{{ messages[0].content.strip() }}":            "a\nb",
		"{{ messages[0]['content'] | trim }}":          "a\nb",
		"{{ messages[0].content|map('upper') }}":       "",
		"{{ messages[0].role }}":                       "user",
		"{{ messages | tojson }}":                      `[{"role": "user", "content": "a\nb"}]`,
		"{{ messages[0].content|length }}":             "3",
		"{{ messages[0].content|first|tojson }}":       `{"type": "text", "text": "a"}`,
		"{% if messages[0].content[1:] %}y{% endif %}": "y",
	} {
		template, err := Parse("t", source, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := template.Render(lists, RenderOptions{})
		if want == "" && err == nil || want != "" && (err != nil || got != want) {
			t.Errorf("%s: %q, %v; want %q", source, got, err, want)
		}
	}
}

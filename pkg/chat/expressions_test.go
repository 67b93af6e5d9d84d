package chat

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Small templates, one feature each, give what transformers gives, or are refused by name. Which
// are refused is known: nothing that was rendered is refused later.
func TestExpressions(t *testing.T) {
	var file struct {
		Variables map[string]json.RawMessage
		Now       time.Time
		List      []struct {
			Template string
			outcome
		}
	}
	readJSON(t, "expressions.json", &file)
	if len(file.List) < 900 {
		t.Fatalf("%d templates", len(file.List))
	}
	variables := map[string]any{}
	for name, v := range file.Variables {
		variables[name] = v
	}
	var refused []string
	for _, want := range file.List {
		text, err := "", error(nil)
		template, err := Parse("t", want.Template, nil)
		if err == nil {
			text, err = template.Render([]Message{{Role: "user", Content: "x"}}, RenderOptions{Variables: variables, Now: file.Now})
		}
		if class(err) == "refused" {
			refused = append(refused, want.Template)
		} else if !want.matches(text, err) {
			t.Errorf("%s: %q, %v; want %q, class %q %q", want.Template, text, err, want.Text, want.Class, want.Error)
		}
	}
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(refusedTemplates), "\n"), refused); diff != "" {
		t.Errorf("refused templates (-want +got):\n%s", diff)
	}
}

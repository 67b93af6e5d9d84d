package manual

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var sample = Page{
	Command: "tool plan",
	Usage:   "tool plan FILE [flags]",
	Short:   "Plan it",
	Long: `Plans *all* of <it>.
Second line, W−Ŵ ‖ {"text": …} ½·√x.

Ways:
  fast   quickly
  'x.y'  with a quote

  slow   after a blank line
.hidden start, a\b and ` + "`code *here*`" + `.`,
	Example: "  tool plan a --out b\n  tool plan c",
	Flags: []Flag{
		{Name: "out", Type: "string", Value: "FILE", Required: true, Usage: "FILE to write"},
		{Name: "rate", Type: "float64", Value: "R", Default: "0.5", Usage: "R|S"},
		{Name: "bits", Type: "int", Value: "N", Default: "0", Usage: "N bits (default: 4)"},
		{Name: "quiet", Shorthand: "q", Type: "bool", Default: "false", Global: true, Usage: "no progress"},
	},
}

func TestParts(t *testing.T) {
	got := parts(sample.Long)
	want := []part{
		{[]string{"Plans *all* of <it>.", "Second line, W−Ŵ ‖ {\"text\": …} ½·√x."}, false},
		{[]string{"Ways:"}, false},
		{[]string{"  fast   quickly", "  'x.y'  with a quote", "", "  slow   after a blank line"}, true},
		{[]string{".hidden start, a\\b and `code *here*`."}, false},
	}
	if !slices.EqualFunc(got, want, func(a, b part) bool { return a.plain == b.plain && slices.Equal(a.lines, b.lines) }) {
		t.Errorf("%+v", got)
	}
}

func TestMarkdown(t *testing.T) {
	root := Page{Command: "tool", Long: "A tool.", Example: "  tool plan",
		Commands: []Entry{{"plan", "Plan it", "Work"}},
		Flags:    []Flag{{Name: "quiet", Shorthand: "q", Type: "bool", Default: "false", Global: true, Usage: "no progress"}}}
	got := Markdown([]Page{root, sample})
	for _, want := range []string{
		"**Work**\n\n| command | purpose |\n| --- | --- |\n| [`plan`](#plan) | Plan it |\n",
		"## plan\n\n    tool plan FILE [flags]\n\n",
		"Plans \\*all\\* of \\<it>.\nSecond line, W−Ŵ ‖ {\"text\": …} ½·√x.\n\nWays:\n\n    fast   quickly\n    'x.y'  with a quote\n\n    slow   after a blank line\n\n.hidden start, a\\\\b and `code *here*`.\n",
		"| `--out FILE` | FILE to write | required |\n| `--rate R` | R\\|S | `0.5` |\n| `--bits N` | N bits (default: 4) |  |\n\n",
		"| `-q, --quiet` | no progress |  |\n\n## plan",
		"Examples:\n\n    tool plan a --out b\n    tool plan c\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if strings.Count(got, "--quiet") != 1 {
		t.Error("a global flag is listed more than once")
	}
}

// The page rendered by groff has the text, including aligned parts and leading dots.
func TestManInGroff(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed")
	}
	cmd := exec.Command(groff, "-man", "-Tutf8", "-P-cbou", "-ww")
	cmd.Stdin = strings.NewReader(sample.Man("1.2.3"))
	var warnings strings.Builder
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		t.Fatalf("%v: %s", err, &warnings)
	}
	for _, want := range []string{
		"TOOL-PLAN(1)", "tool-plan - Plan it", "tool plan FILE [flags]",
		"Plans *all* of <it>.", "W−Ŵ ‖ {\"text\": …} ½·√x.", "fast   quickly\n", "'x.y'  with a quote\n", "slow   after a blank line\n",
		".hidden start, a\\b and `code *here*`.", "--rate R", "(default 0.5)", "(required)", "tool plan a --out b\n", "tool 1.2.3",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}

// No line of text begins with a roff request.
func TestManHasNoStrayRequests(t *testing.T) {
	known := []string{".TH", ".SH", ".PP", ".TP", ".B", ".RS", ".RE", ".nf", ".fi", ".sp"}
	for _, line := range strings.Split(sample.Man("1.2.3"), "\n") {
		request, _, _ := strings.Cut(line, " ")
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !slices.Contains(known, request) {
			t.Errorf("%q", line)
		}
	}
}

func TestRead(t *testing.T) {
	answers := map[string]string{
		"help --json":       `{"schema":"afmq.help/v1","command":"tool","commands":[{"name":"plan","short":"p"},{"name":"codes","short":"c"}]}`,
		"help plan --json":  `{"schema":"afmq.help/v1","command":"tool plan","usage":"tool plan"}`,
		"help codes --json": `{"schema":"afmq.exit-codes/v1","exit_codes":[]}`,
		"help codes":        "Codes:\n  0 done\n\n",
		"version --json":    `{"version":"1.2"}`,
	}
	ask := func(args ...string) ([]byte, error) {
		if out, ok := answers[strings.Join(args, " ")]; ok {
			return []byte(out), nil
		}
		return nil, errors.New("asked for " + strings.Join(args, " "))
	}
	pages, err := Read(ask)
	if err != nil || len(pages) != 3 {
		t.Fatalf("%v, %v", pages, err)
	}
	if p := pages[2]; p.Command != "tool codes" || p.Long != "Codes:\n  0 done" || p.Usage != "" {
		t.Errorf("%+v", p)
	}
	if v, err := Version(ask); v != "1.2" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	answers["help plan --json"] = "no JSON"
	if _, err := Read(ask); err == nil {
		t.Error("output that is not JSON is accepted")
	}
}

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sample = "# Title\n" +
	"\n" +
	"    $ echo first; \\\n" +
	"      echo more\n" +
	"    one\n" +
	"\n" +
	"    two\n" +
	"    $ true\n" +
	"\n" +
	"Text\n" +
	"\n" +
	"    no output of it\n" +
	"\n" +
	"```yaml\n" +
	"    $ no command\n" +
	"```\n" +
	"```console\n" +
	"$ echo first; \\\n" +
	"  echo more\n" +
	"stale\n" +
	"$ false\n" +
	"$ echo $?\n" +
	"0\n" +
	"```\n" +
	"    $ echo last\n"

func samplePage(t *testing.T) *page {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(sample), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := readPage(file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParse(t *testing.T) {
	p := samplePage(t)
	var texts []string
	for _, c := range p.commands {
		texts = append(texts, c.text)
	}
	both := "echo first; \\\n  echo more"
	if want := []string{both, "true", both, "false", "echo $?", "echo last"}; !slices.Equal(texts, want) {
		t.Fatalf("commands %q, want %q", texts, want)
	}
	if c := p.commands[0]; c.line != 3 || !slices.Equal(c.shown, []string{"one", "", "two"}) {
		t.Errorf("first command: line %d, output %q", c.line, c.shown)
	}
	if c := p.commands[1]; len(c.shown) != 0 {
		t.Errorf("output of true: %q", c.shown)
	}
}

// A repeated command takes the output of the first time, $? is the exit code of the command
// before, and an update leaves everything but outputs as it is.
func TestUpdate(t *testing.T) {
	p := samplePage(t)
	ran, err := execute(p.commands, "afmq", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if ran != 5 {
		t.Errorf("%d commands run, want 5", ran)
	}
	if c := p.commands[3]; c.status != 1 {
		t.Errorf("exit code of false: %d", c.status)
	}
	var said bytes.Buffer
	if err := p.update(&said); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(p.name)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("    one\n\n    two\n", "    first\n    more\n", "stale\n", "first\nmore\n",
		"$?\n0\n", "$?\n1\n", "    $ echo last\n", "    $ echo last\n    last\n").Replace(sample)
	if string(got) != want {
		t.Errorf("the page is\n%s\nwant\n%s", got, want)
	}
	if n := strings.Count(said.String(), "updated"); n != 4 {
		t.Errorf("it reports %d updates, want 4:\n%s", n, &said)
	}
}

func TestUnpinned(t *testing.T) {
	for text, want := range map[string]bool{
		"afmq generate a --prompt b":               true,
		"afmq generate a --prompt b --compute f32": false,
		"afmq eval-perplexity a --compute i16":     true,
		"afmq verify a":                            false,
	} {
		if got := (&command{text: text}).unpinned(); got != want {
			t.Errorf("%s: %v", text, got)
		}
		if (&command{text: text, status: 3}).unpinned() {
			t.Errorf("%s, which fails, prints figures", text)
		}
	}
}

// Package client tests that another module can use the packages under pkg/: it builds and runs
// the program in testdata/client, which docs/library.md shows, in a module of its own.
package client

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"afmq/internal/demo"
)

const source = "testdata/client/main.go"

// The program has at most 40 lines, and prints figures of the embedded model.
func TestClientModule(t *testing.T) {
	program, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(program, []byte("\n")); n > 40 {
		t.Errorf("the program has %d lines", n)
	}
	dir := t.TempDir()
	module(t, dir, program)
	model, text := filepath.Join(dir, "model"), filepath.Join(dir, "text.txt")
	if err := demo.Extract(model); err != nil {
		t.Fatal(err)
	}
	story := "The old man walked down to the river in the morning and looked at the boats. " +
		"He said to his son that the water was high, and that they would wait until the evening.\n"
	if err := os.WriteFile(text, []byte(story), 0o666); err != nil {
		t.Fatal(err)
	}
	goCommand(t, dir, "build", "-o", "client", ".")
	out, err := exec.Command(filepath.Join(dir, "client"), model, text, filepath.Join(dir, "out")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := regexp.MustCompile(`^4\.20 bits per weight\nperplexity \d+\.\d, KL divergence 0\.\d{3}\nOnce upon a time\S?\s\w`)
	if !want.Match(out) {
		t.Errorf("it prints\n%s", out)
	}
	// What a caller can do wrong is an error with the cause, not a panic.
	out, err = exec.Command(filepath.Join(dir, "client"), filepath.Join(dir, "none"), text, filepath.Join(dir, "other")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "none: does not exist") || strings.Contains(string(out), "goroutine") {
		t.Errorf("without a model: %v\n%s", err, out)
	}
}

// docs/library.md shows the program as it is.
func TestLibraryPageShowsTheProgram(t *testing.T) {
	program, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/library.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, append([]byte("```go\n"), append(program, "```\n"...)...)) {
		t.Error("docs/library.md does not have the text of " + source)
	}
}

// module writes a module that requires this one, from where it lies, with the same versions
// of everything else.
func module(t *testing.T, dir string, program []byte) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	requirements := strings.Replace(string(own), "module afmq\n", "module client\n", 1)
	requirements = regexp.MustCompile(`(?m)^tool .*\n`).ReplaceAllString(requirements, "")
	mod := fmt.Sprintf("%s\nrequire afmq v0.0.0\n\nreplace afmq => %s\n", requirements, root)
	for name, data := range map[string][]byte{"main.go": program, "go.mod": []byte(mod), "go.sum": sums} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func goCommand(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

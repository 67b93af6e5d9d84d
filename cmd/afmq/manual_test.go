package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"afmq/internal/manual"
)

// inProcess runs the program without a process.
func inProcess(args ...string) ([]byte, error) {
	var out, stderr bytes.Buffer
	if code := run(args, &out, &stderr); code != 0 {
		return nil, fmt.Errorf("exit code %d: %s", code, &stderr)
	}
	return out.Bytes(), nil
}

// docs/commands.md says what help says.
func TestCommandReference(t *testing.T) {
	pages, err := manual.Read(inProcess)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != manual.Markdown(pages) {
		t.Error("docs/commands.md is stale; go generate ./cmd/afmq writes it")
	}
}

// Help is enough to use the tool: every flag that takes a value says of what kind, every
// command has a place in the list, what it says of other flags and commands is so, and its
// examples parse.
func TestHelp(t *testing.T) {
	pages, err := manual.Read(inProcess)
	if err != nil {
		t.Fatal(err)
	}
	flags, commands := map[string]bool{"help": true}, map[string]bool{"exit-codes": true}
	for _, e := range pages[0].Commands {
		if e.Name != exitCodesTopic && e.Group == "" {
			t.Errorf("%s has no heading", e.Name)
		}
		commands[e.Name] = true
	}
	for _, p := range pages {
		for _, f := range p.Flags {
			flags[f.Name] = true
			if takes := f.Type != "bool"; takes != (f.Value != "") {
				t.Errorf("%s --%s, of type %s, shows the value %q", p.Command, f.Name, f.Type, f.Value)
			}
			if f.Value != "" && f.Value != strings.ToUpper(f.Value) {
				t.Errorf("%s --%s shows the value %q", p.Command, f.Name, f.Value)
			}
		}
	}
	flag := regexp.MustCompile(`--([a-z][a-z0-9-]*)`)
	command := regexp.MustCompile("(?:`|(?m:^ +))afmq (?:help )?([a-z-]+)")
	for _, p := range pages {
		all := p.Long + "\n" + p.Example
		for _, f := range p.Flags {
			all += "\n" + f.Usage
		}
		for _, m := range flag.FindAllStringSubmatch(all, -1) {
			if !flags[m[1]] {
				t.Errorf("%s speaks of --%s, which no command has", p.Command, m[1])
			}
		}
		for _, m := range command.FindAllStringSubmatch(all, -1) {
			if !commands[m[1]] {
				t.Errorf("%s speaks of `afmq %s`, which there is not", p.Command, m[1])
			}
		}
		for _, example := range strings.Split(joined(p.Example), "\n") {
			if err := parses(example); err != nil {
				t.Errorf("%s: example %q: %v", p.Command, strings.TrimSpace(example), err)
			}
		}
	}
}

// Command lines of the documentation are ones that the program takes.
func TestCommandsInDocs(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "../../README.md") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^    (?:\$ )?(?:\./)?(afmq [a-z].*)$`).FindAllStringSubmatch(joined(string(data)), -1) {
			if strings.Contains(m[1], "[") { // a form of usage
				continue
			}
			found++
			if err := parses(m[1]); err != nil {
				t.Errorf("%s: %q: %v", filepath.Base(file), m[1], err)
			}
		}
	}
	if found < 50 {
		t.Errorf("found %d command lines; are they written otherwise?", found)
	}
}

// joined joins the command lines that a backslash continues.
func joined(text string) string { return strings.ReplaceAll(text, "\\\n", " ") }

// parses reports what keeps a command line from being taken, before anything runs.
func parses(example string) error {
	example, _, _ = strings.Cut(example, " #")
	example, _, _ = strings.Cut(example, " >")
	var args []string
	for _, m := range regexp.MustCompile(`"([^"]*)"|'([^']*)'|(\S+)`).FindAllStringSubmatch(example, -1) {
		arg := m[1] + m[2] + m[3]
		if arg == "N" { // some number
			arg = "1"
		}
		args = append(args, arg)
	}
	if len(args) < 2 || args[0] != "afmq" {
		return nil
	}
	root := newRootCommand(&app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}})
	root.InitDefaultHelpCmd()
	cmd, rest, err := root.Find(args[1:])
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	return cmd.ValidateRequiredFlags()
}

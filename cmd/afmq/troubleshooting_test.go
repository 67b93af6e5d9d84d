package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every message that docs/troubleshooting.md quotes is one that the program has: its parts
// between ellipses stand, in their order, in one string of the source.
func TestTroubleshootingQuotesMessages(t *testing.T) {
	data, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("(?s)\\*\\*`([^`]+)`\\*\\*").FindAllStringSubmatch(string(data), -1)
	if len(quoted) < 40 {
		t.Fatalf("the document quotes %d messages; is its form another?", len(quoted))
	}
	messages := append(sourceStrings(t, "../../cmd/afmq", "../../pkg", "../../internal"), pythonStrings(t, "../../scripts/afmq_train")...)
	for _, m := range quoted {
		if !quotes(messages, m[1]) {
			t.Errorf("no string of the source has the message %q", m[1])
		}
	}
	for _, gone := range []string{"there is no such message", "is missing… names it… never"} {
		if quotes(messages, gone) {
			t.Errorf("the check finds %q", gone)
		}
	}
}

// quotes reports whether a message with … for what differs is among strings of the source.
// What differs may be nothing but a verb of fmt where the ellipsis stands.
func quotes(messages []string, message string) bool {
	message = strings.Join(strings.Fields(message), " ")
	var parts []string
	for _, p := range strings.Split(message, "…") {
		parts = append(parts, regexp.QuoteMeta(strings.TrimSpace(p)))
	}
	form := regexp.MustCompile(strings.Join(parts, ".*%.*"))
	if strings.HasSuffix(message, ": …") { // the cause that follows is joined elsewhere
		form = regexp.MustCompile(strings.TrimSuffix(strings.Join(parts[:len(parts)-1], ".*%.*"), ":"))
	}
	for _, s := range messages {
		if form.MatchString(strings.ReplaceAll(s, "%%", "")) {
			return true
		}
	}
	return false
}

// sourceStrings returns the strings of all Go files below dirs, tests aside.
func sourceStrings(t *testing.T, dirs ...string) []string {
	t.Helper()
	var all []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil {
						all = append(all, s)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// pythonStrings returns the strings of the Python files of a directory, with verbs for what their
// braces insert.
func pythonStrings(t *testing.T, dir string) (all []string) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "*.py"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"([^"\n]*)"`).FindAllStringSubmatch(string(data), -1) {
			all = append(all, regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(m[1], "%v"))
		}
	}
	return all
}

package arch

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// markdownPages returns all Markdown files of the repository with their text, without code.
func markdownPages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == ".venv" || d.Name() == "build" || d.Name() == "dist" || d.Name() == "shared") {
			return filepath.SkipDir
		}
		if filepath.Ext(file) != ".md" {
			return nil
		}
		data, err := os.ReadFile(file)
		pages[file] = withoutCode(string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

var inlineCode = regexp.MustCompile("`[^`\n]*`")

// withoutCode empties fenced and indented blocks.
func withoutCode(page string) string {
	var out []string
	fenced := false
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		fence := strings.HasPrefix(line, "```")
		if fence {
			fenced = !fenced
		}
		if fence || fenced || strings.HasPrefix(line, "    ") {
			line = ""
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// anchors returns the anchors that GitHub gives to the headings of a page: in lower case, with
// hyphens for spaces, without other punctuation; the second of the same name ends in -1.
func anchors(page string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(page) {
		heading := strings.TrimLeft(line, "#")
		if heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(heading))
		name := slug
		for i := 1; out[name]; i++ {
			name = fmt.Sprintf("%s-%d", slug, i)
		}
		out[name] = true
	}
	return out
}

func TestAnchors(t *testing.T) {
	got := anchors("# The JSON object\n## Compared with llama.cpp, OpenBLAS\n## `a_b`: 5 %\n## Use\n## Use\n#none\n")
	for _, want := range []string{"the-json-object", "compared-with-llamacpp-openblas", "a_b-5-", "use", "use-1"} {
		if !got[want] {
			t.Errorf("no anchor %q in %v", want, got)
		}
	}
	if len(got) != 5 {
		t.Errorf("%v", got)
	}
}

// Every link between files of the repository leads to a file, and to a heading in it where it
// names one.
func TestLinksResolve(t *testing.T) {
	pages := markdownPages(t)
	link := regexp.MustCompile(`\]\(([^()\s]+)\)`)
	found := 0
	for file, text := range pages {
		for _, m := range link.FindAllStringSubmatch(inlineCode.ReplaceAllString(text, "``"), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			path, anchor, named := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), filepath.FromSlash(path))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", file, m[1])
				continue
			}
			if named && !anchors(pages[target])[anchor] {
				t.Errorf("%s links to %s; there is no such heading", file, m[1])
			}
		}
	}
	if found < 100 {
		t.Errorf("found %d links; are they written otherwise?", found)
	}
}

// README.md and docs/README.md list every page of docs.
func TestMapsListEveryPage(t *testing.T) {
	pages := markdownPages(t)
	docs := filepath.Join("..", "..", "docs")
	for file := range pages {
		name := filepath.Base(file)
		if filepath.Dir(file) != docs || name == "README.md" {
			continue
		}
		if !strings.Contains(pages[filepath.Join(docs, "README.md")], "]("+name+")") {
			t.Errorf("docs/README.md does not list %s", name)
		}
		if !strings.Contains(pages[filepath.Join("..", "..", "README.md")], "](docs/"+name+")") {
			t.Errorf("README.md does not list docs/%s", name)
		}
	}
}

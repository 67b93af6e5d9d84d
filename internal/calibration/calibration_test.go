package calibration

import (
	"encoding/json"
	"go/format"
	"io/fs"
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

// minBytes and maxBytes bound a document: long enough to have a course, short enough that a
// small budget of tokens meets several kinds of text.
const minBytes, maxBytes = 700, 3000

// The text is enough for the default budget of 16,384 tokens with a tokenizer of 5 bytes a
// token, which exceeds that of large vocabularies on English prose.
func TestSizes(t *testing.T) {
	total := 0
	names := map[string]bool{}
	for _, d := range Documents() {
		if n := len(d.Text); n < minBytes || n > maxBytes {
			t.Errorf("%s has %d bytes", d.Name, n)
		}
		if names[d.Name] {
			t.Errorf("%s occurs twice", d.Name)
		}
		names[d.Name] = true
		total += len(d.Text)
	}
	if n := len(Documents()); n != 82 || total < 5*16384 || total > 128<<10 {
		t.Errorf("%d documents, %d bytes; the package comment and docs/provenance.md say 82 and about 110 KB", n, total)
	}
}

func TestCharacters(t *testing.T) {
	for _, d := range Documents() {
		if !utf8.ValidString(d.Text) || strings.ContainsAny(d.Text, "\x00\r\ufeff\ufffd") {
			t.Errorf("%s is not clean UTF-8", d.Name)
		}
		if strings.TrimSpace(d.Text) != d.Text && path.Ext(d.Name) != ".diff" {
			t.Errorf("%s starts or ends with white space", d.Name)
		}
		for line := range strings.Lines(d.Text) {
			if strings.HasPrefix(line, "-- ") && strings.HasSuffix(line, "--\n") {
				t.Errorf("%s: a malformed separator: %q", d.Name, line)
			}
		}
	}
}

// Statistics of a text that repeats itself are those of a shorter text. No two documents
// share a run of 32 bytes, and within a document hardly any occurs twice.
func TestNoRepetition(t *testing.T) {
	const run = 32
	type place struct{ doc, at int }
	first := map[string]place{}
	runs, repeated := 0, 0
	for i, d := range Documents() {
		for at := 0; at+run <= len(d.Text); at++ {
			s := d.Text[at : at+run]
			p, seen := first[s]
			switch {
			case !seen:
				first[s] = place{i, at}
			case p.doc != i:
				t.Errorf("%s and %s share %q", Documents()[p.doc].Name, d.Name, s)
			case at-p.at >= run:
				repeated++
			}
			runs++
		}
	}
	if share := float64(repeated) / float64(runs); share > 0.003 {
		t.Errorf("%.2f %% of the runs of %d bytes repeat", 100*share, run)
	}
}

// What claims to be Go or JSON is.
func TestCode(t *testing.T) {
	kinds := map[string]int{}
	for _, d := range Documents() {
		ext := path.Ext(d.Name)
		kinds[ext]++
		switch ext {
		case ".go":
			source := d.Text + "\n"
			if out, err := format.Source([]byte(source)); err != nil || string(out) != source {
				t.Errorf("%s is not formatted Go: %v", d.Name, err)
			}
		case ".json":
			if !json.Valid([]byte(d.Text)) {
				t.Errorf("%s is not JSON", d.Name)
			}
		}
	}
	for _, ext := range []string{".txt", ".md", ".go", ".py", ".c", ".sql", ".sh", ".json", ".html"} {
		if kinds[ext] == 0 {
			t.Errorf("no document is a %s", ext)
		}
	}
}

// The .jsonl form has every document, in order.
func TestJSONL(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(string(JSONL()), "\n"), "\n")
	if len(lines) != len(Documents()) {
		t.Fatalf("%d lines for %d documents", len(lines), len(Documents()))
	}
	for i, line := range lines {
		var object struct{ Text string }
		if err := json.Unmarshal([]byte(line), &object); err != nil || object.Text != Documents()[i].Text {
			t.Errorf("line %d is not %s: %v", i+1, Documents()[i].Name, err)
		}
	}
}

// Every document of the sources is embedded: each has a separator line.
func TestNothingIsLost(t *testing.T) {
	separators := 0
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(string(data), "-- ") {
			t.Errorf("%s has text before its first document", name)
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, "-- ") && strings.HasSuffix(line, " --\n") {
				separators++
			}
		}
		return nil
	})
	if err != nil || separators != len(Documents()) {
		t.Errorf("%d separators, %d documents: %v", separators, len(Documents()), err)
	}
}

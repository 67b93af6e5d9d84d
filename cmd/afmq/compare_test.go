package main

import (
	"bytes"
	"strings"
	"testing"

	"afmq/pkg/compare"
)

// Names cannot end a cell of a Markdown table, start another element or act on a terminal.
func TestCompareMarkdownIsHarmless(t *testing.T) {
	o := wideComparison(true)
	const evil = "a | b\\| <img src=x> `c` [d](http://e) *f*\n# g\x1b[2J"
	for i := range o.Models {
		if o.Models[i].Name == "4-bit" {
			o.Models[i].Name = evil
		}
		o.Models[i].Tasks.Scores[0].Task = evil
	}
	o.Front = []string{evil}
	var b bytes.Buffer
	if err := printCompareMarkdown(&b, o); err != nil {
		t.Fatal(err)
	}
	bars, tables := 0, 0
	for line := range strings.Lines(b.String()) {
		plain := strings.ReplaceAll(strings.ReplaceAll(line, `\\`, ""), `\|`, "")
		n := strings.Count(plain, "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			bars = 0
			if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "\x1b") {
				t.Errorf("a line begins with %q", line)
			}
			continue
		case bars == 0:
			bars = n
			tables++
		}
		if n != bars {
			t.Errorf("%d bars in a table with %d: %q", n, bars, line)
		}
	}
	if tables != 3 { // models, pairs, one task
		t.Errorf("%d tables", tables)
	}
	for _, bad := range []string{"<img", "\x1b", "[d](", " `c`", " *f*"} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("the output has %q:\n%s", bad, &b)
		}
	}
}

// Text and Markdown print the same figures.
func TestCompareFormatsAgree(t *testing.T) {
	o := wideComparison(true)
	var text, markdown bytes.Buffer
	if err := printCompare(&text, o); err != nil {
		t.Fatal(err)
	}
	if err := printCompareMarkdown(&markdown, o); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{text.String(), markdown.String()} {
		for _, want := range []string{"999.00 GiB", "1234.5678 ± 123.4567", "1.23457 ± 0.01235", "12345 of 123456", "123.46 %", "not distinguishable", "dominated by qwen3-32b", "not shown better than 4-bit"} {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	}
}

// The best of a size is named once, where it changes.
func TestBestIsNamedOnce(t *testing.T) {
	o := wideComparison(true)
	o.Best = []compare.Best{{MaxBytes: 1, Models: []string{"a"}}, {MaxBytes: 2, Models: []string{"b", "a"}}, {MaxBytes: 3, Models: []string{"b", "a"}}}
	var got []string
	for _, c := range conclusions(o) {
		if strings.HasPrefix(c[0], "best") {
			got = append(got, c[0]+": "+c[1])
		}
	}
	if want := "best from 1 B: a\nbest from 2 B: b; not distinguishable on this text: a"; strings.Join(got, "\n") != want {
		t.Errorf("%q", got)
	}
}

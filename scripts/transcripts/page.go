package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// page is a Markdown page.
type page struct {
	name     string
	lines    []string
	commands []*command
}

// command is a command of a page, with the output that the page shows and the one that it has.
type command struct {
	page   string
	line   int    // of the page, from 1
	text   string // of one or more lines
	prefix string // of every line of the block: its indentation
	shown  []string
	from   int // lines[from:to] of the page are the output shown
	to     int

	output []string
	status int
}

func readPage(name string) (*page, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	p := &page{name: name, lines: strings.Split(string(data), "\n")}
	p.parse()
	if len(p.commands) == 0 {
		return nil, fmt.Errorf("%s: no transcript found: no line of code begins with \"$ \"", name)
	}
	return p, nil
}

// parse finds the commands and the extents of their outputs.
func (p *page) parse() {
	fence := "" // the line that opened the fenced block around the line
	var last *command
	for i := 0; i < len(p.lines); i++ {
		line := p.lines[i]
		if strings.HasPrefix(line, "```") {
			if fence == "" {
				fence = line
			} else {
				fence = ""
			}
			last = nil
			continue
		}
		prefix := "    "
		if fence != "" {
			prefix = ""
		}
		code, ok := strings.CutPrefix(line, prefix)
		ok = ok && (fence == "" || fence == "```console")
		switch {
		case ok && strings.HasPrefix(code, "$ "):
			last = &command{page: p.name, line: i + 1, text: code[2:], prefix: prefix}
			for strings.HasSuffix(last.text, "\\") && i+1 < len(p.lines) {
				i++
				last.text += "\n" + strings.TrimPrefix(p.lines[i], prefix)
			}
			last.from, last.to = i+1, i+1
			p.commands = append(p.commands, last)
		case last != nil && (ok || line == ""):
			if strings.TrimSpace(line) != "" {
				last.to = i + 1
			}
		default:
			last = nil
		}
	}
	for _, c := range p.commands {
		for _, line := range p.lines[c.from:c.to] {
			c.shown = append(c.shown, strings.TrimPrefix(line, c.prefix))
		}
		c.shown = trim(c.shown)
	}
}

// update writes the page with the present outputs, if one that it shows differs, and says
// which were replaced.
func (p *page) update(w io.Writer) error {
	var out []string
	at, changed := 0, 0
	for _, c := range p.commands {
		out = append(out, p.lines[at:c.from]...)
		at = c.to
		if match(c.shown, c.output) { // times and speeds stay as they are
			out = append(out, p.lines[c.from:c.to]...)
			continue
		}
		shown, found := excerpt(c.shown, c.output)
		changed++
		fmt.Fprintf(w, "%s:%d: updated", p.name, c.line)
		if c.status != 0 { // perhaps an error that the page should not show
			fmt.Fprintf(w, "; exit code %d", c.status)
		}
		fmt.Fprintln(w)
		if !found {
			fmt.Fprintf(w, "%s:%d: the lines shown before are gone; the page has the whole output, shorten it with \"...\"\n", p.name, c.line)
		}
		for _, line := range shown {
			out = append(out, strings.TrimRight(c.prefix+line, " "))
		}
	}
	if changed == 0 {
		return nil
	}
	out = append(out, p.lines[at:]...)
	return os.WriteFile(p.name, []byte(strings.Join(out, "\n")), 0o644)
}

// needsArithmetic matches commands whose arithmetic is by default the fastest of the machine.
var needsArithmetic = regexp.MustCompile(`^(?:\./)?afmq (eval-perplexity|generate) `)

// unpinned reports whether the figures of a command depend on the machine.
func (c *command) unpinned() bool {
	return c.status == 0 && needsArithmetic.MatchString(c.text) && !strings.Contains(c.text, "--compute f32")
}

// trim removes empty lines at both ends.
func trim(lines []string) []string {
	for len(lines) > 0 && strings.TrimSpace(lines[0]) == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

func indent(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(strings.TrimRight("    "+line, " ") + "\n")
	}
	return b.String()
}

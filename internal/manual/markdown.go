package manual

import (
	"fmt"
	"strings"
)

// Markdown returns one page about all commands, the program's own page first among pages.
func Markdown(pages []Page) string {
	root := pages[0]
	byName := map[string]Page{}
	for _, p := range pages[1:] {
		byName[p.name()] = p
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- Made by go generate ./cmd/%s from what the commands' help says; not to be edited. -->\n\n# Commands\n\n", root.Command)
	text(&b, root.Long)
	code(&b, dedent(strings.Split(root.Example, "\n")))
	groups, entries := grouped(root.Commands)
	for _, g := range groups {
		heading := g
		if g == "" {
			heading = "Topics"
		}
		fmt.Fprintf(&b, "**%s**\n\n", heading)
		b.WriteString("| command | what it does |\n| --- | --- |\n")
		for _, e := range entries[g] {
			fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", e.Name, e.Name, cell(e.Short))
		}
		b.WriteString("\n")
	}
	b.WriteString("Every command takes these flags:\n\n")
	var global []Flag
	for _, f := range root.Flags {
		if f.Name == "help" {
			f.Usage = "help for a command"
		} else if !f.Global {
			continue
		}
		global = append(global, f)
	}
	flagTable(&b, global)
	for _, g := range groups {
		for _, e := range entries[g] {
			command(&b, byName[e.Name])
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func command(b *strings.Builder, p Page) {
	fmt.Fprintf(b, "## %s\n\n", p.name())
	if p.Usage != "" {
		fmt.Fprintf(b, "    %s\n\n", p.Usage)
	}
	long := p.Long
	if long == "" {
		long = p.Short + "."
	}
	text(b, long)
	if own := p.own(); len(own) > 0 {
		flagTable(b, own)
	}
	if p.Example != "" {
		b.WriteString("Examples:\n\n")
		code(b, dedent(strings.Split(p.Example, "\n")))
	}
}

// grouped returns the headings in the order in which they occur, and the entries of each.
func grouped(all []Entry) ([]string, map[string][]Entry) {
	var order []string
	of := map[string][]Entry{}
	for _, e := range all {
		if _, seen := of[e.Group]; !seen {
			order = append(order, e.Group)
		}
		of[e.Group] = append(of[e.Group], e)
	}
	return order, of
}

func flagTable(b *strings.Builder, flags []Flag) {
	b.WriteString("| flag | what it means | default |\n| --- | --- | --- |\n")
	for _, f := range flags {
		def := f.ShownDefault()
		switch {
		case f.Required:
			def = "required"
		case def != "":
			def = "`" + def + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", strings.ReplaceAll(f.Spelling(), "|", `\|`), cell(f.Usage), def)
	}
	b.WriteString("\n")
}

func text(b *strings.Builder, s string) {
	for _, p := range parts(s) {
		if p.plain {
			code(b, dedent(p.lines))
			continue
		}
		for _, line := range p.lines {
			b.WriteString(prose(line) + "\n")
		}
		b.WriteString("\n")
	}
}

// code writes lines as a block of code.
func code(b *strings.Builder, lines []string) {
	for _, line := range lines {
		b.WriteString(strings.TrimRight("    "+line, " ") + "\n")
	}
	b.WriteString("\n")
}

// dedent removes the indent that all lines share.
func dedent(lines []string) []string {
	least := -1
	for _, line := range lines {
		if n := len(line) - len(strings.TrimLeft(line, " ")); line != "" && (least < 0 || n < least) {
			least = n
		}
	}
	out := make([]string, len(lines))
	for i, line := range lines {
		if line != "" {
			out[i] = line[least:]
		}
	}
	return out
}

// cell returns a text for a table.
func cell(s string) string { return strings.ReplaceAll(prose(s), "|", `\|`) }

// prose escapes what Markdown would take for markup outside of code.
func prose(s string) string {
	var b strings.Builder
	inCode := false
	for _, r := range s {
		switch {
		case r == '`':
			inCode = !inCode
		case !inCode && strings.ContainsRune(`*<[\`, r):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

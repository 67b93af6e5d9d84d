package manual

import (
	"fmt"
	"strings"
)

// Man returns the man page of a command in section 1, in the macros of man(7), which groff
// and mandoc support. It has no date, so that the same program gives the same page.
func (p Page) Man(version string) string {
	program, _, _ := strings.Cut(p.Command, " ")
	title := strings.ReplaceAll(p.Command, " ", "-")
	var b strings.Builder
	fmt.Fprintf(&b, ".TH \"%s\" \"1\" \"\" \"%s %s\" \"%s manual\"\n", roff(strings.ToUpper(title)), program, roff(version), program)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(title), roff(p.Short))
	if p.Usage != "" {
		fmt.Fprintf(&b, ".SH SYNOPSIS\n.nf\n%s\n.fi\n", line(p.Usage))
	}
	long := p.Long
	if long == "" {
		long = p.Short + "."
	}
	b.WriteString(".SH DESCRIPTION\n")
	for i, part := range parts(long) {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		kept(&b, part)
	}
	if len(p.Commands) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, e := range p.Commands {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(e.Name), line(e.Short))
		}
	}
	if len(p.Flags) > 0 {
		b.WriteString(".SH OPTIONS\n")
		for _, f := range p.Flags {
			fmt.Fprintf(&b, ".TP\n.B \"%s\"\n%s", strings.ReplaceAll(roff(f.Spelling()), `"`, `\(dq`), line(f.Usage))
			if d := f.ShownDefault(); d != "" {
				fmt.Fprintf(&b, " (default %s)", roff(d))
			}
			if f.Required {
				b.WriteString(" (required)")
			}
			b.WriteString("\n")
		}
	}
	if p.Example != "" {
		b.WriteString(".SH EXAMPLES\n")
		kept(&b, part{strings.Split(p.Example, "\n"), true})
	}
	also := program + "(1), " + program + "-help(1), " + program + "-exit-codes(1)"
	fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", roff(also))
	return b.String()
}

// kept writes a part of a text; an indented block is written line by line.
func kept(b *strings.Builder, p part) {
	if p.plain {
		b.WriteString(".RS 2\n.nf\n")
	}
	for _, l := range p.lines {
		if p.plain && l == "" {
			b.WriteString(".sp\n")
			continue
		}
		b.WriteString(line(strings.TrimPrefix(l, "  ")) + "\n")
	}
	if p.plain {
		b.WriteString(".fi\n.RE\n")
	}
}

// line escapes a line of text, including a first character that would make it a request.
func line(s string) string {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + roff(s)
	}
	return roff(s)
}

// roffEscapes escape the markup of roff. A hyphen is written as a minus, so that it can be
// searched for and copied to a command line.
var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// roff escapes markup, and writes characters outside of ASCII by number, because roff reads
// bytes.
func roff(s string) string {
	var b strings.Builder
	for _, r := range roffEscapes.Replace(s) {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.String()
}

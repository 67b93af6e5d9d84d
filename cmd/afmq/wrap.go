package main

import (
	"strings"
	"unicode/utf8"
)

// columns is the width that printed lines keep to, the usual one of a terminal. A path, a
// digest or another word without a space is never broken, and may be wider.
const columns = 80

// noBreak stands for a space at which a line must not be broken. It is a noncharacter of
// Unicode, which no text contains.
const noBreak = "\uFDD0"

// whole returns a path for a table in which it must stay in one piece.
func whole(path string) string { return strings.ReplaceAll(path, " ", noBreak) }

// shortName returns the name of a module without what all of a model's layers share:
// 3.mlp.down_proj stands for model.layers.3.mlp.down_proj. Names outside of the layers begin
// with a letter.
func shortName(name string) string { return strings.TrimPrefix(name, "model.layers.") }

// fold breaks a line that is too wide between words, but not before a per cent sign. The rest is
// indented to the beginning of the line's last cell; two spaces end a cell.
func fold(line string) string {
	if utf8.RuneCountInString(line) > columns {
		line = foldWords(strings.ReplaceAll(line, " %", noBreak+"%"))
	}
	return strings.ReplaceAll(line, noBreak, " ")
}

func foldWords(line string) string {
	cell := lastCell(line)
	indent := utf8.RuneCountInString(line[:cell])
	var b strings.Builder
	b.WriteString(line[:cell])
	at := indent
	for i, word := range strings.Split(line[cell:], " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i > 0 && at+1+n > columns:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		case i > 0:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// lastCell returns the index at which the last cell of a line begins.
func lastCell(line string) int {
	text := strings.TrimRight(line, " ")
	start := len(text) - len(strings.TrimLeft(text, " "))
	if i := strings.LastIndex(text, "  "); i >= start {
		return i + 2
	}
	return start
}

// reflow fits a help text to the width of a terminal. Indented lines stay lines of their own,
// except that one that begins under the text of the entry above it continues that entry.
func reflow(text string) string {
	var out []string
	var open string // a paragraph, or an entry of a list, that may go on
	flush := func() {
		if open != "" {
			out = append(out, fold(open))
		}
		open = ""
	}
	for line := range strings.SplitSeq(text, "\n") {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case strings.TrimSpace(line) == "":
			flush()
			out = append(out, "")
		case open != "" && indent == 0 && !strings.HasPrefix(open, "  "),
			open != "" && indent > 2 && indent == utf8.RuneCountInString(open[:lastCell(open)]):
			open += " " + strings.TrimSpace(line)
		default:
			flush()
			open = line
		}
	}
	flush()
	return strings.Join(out, "\n")
}

// foldExamples breaks command lines that are too wide before a flag, in the way of a shell.
func foldExamples(text string) string {
	const end, indent = " \\", "      "
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if utf8.RuneCountInString(line) <= columns {
			out = append(out, line)
			continue
		}
		parts := strings.Split(line, " --")
		open := parts[0]
		for _, part := range parts[1:] {
			if utf8.RuneCountInString(open+" --"+part+end) <= columns {
				open += " --" + part
				continue
			}
			out = append(out, open+end)
			open = indent + "--" + part
		}
		out = append(out, open)
	}
	return strings.Join(out, "\n")
}

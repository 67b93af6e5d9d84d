package main

import (
	"fmt"
	"io"
	"strings"
)

// printCompareMarkdown writes the comparison as tables of GitHub's Markdown.
func printCompareMarkdown(w io.Writer, o *compareObject) error {
	var b strings.Builder
	for _, f := range compareFacts(o) {
		fmt.Fprintf(&b, "- %s: %s\n", f[0], markdownText(f[1]))
	}
	all := textGrid{head: []string{"model", "size", "bpw", "perplexity", "bits/byte", "tokens/s"}}
	sizes, losses := sizeGrid(o), lossGrid(o)
	all.head = append(all.head, losses.head[1:]...)
	for i, row := range sizes.rows {
		all.rows = append(all.rows, append(row, losses.rows[i][1:]...))
	}
	grids := append([]textGrid{all}, pairGrid(o)...)
	for _, g := range append(grids, taskGrids(o)...) {
		g.markdown(&b)
	}
	b.WriteByte('\n')
	for _, c := range conclusions(o) {
		fmt.Fprintf(&b, "- %s: %s\n", c[0], markdownText(c[1]))
	}
	_, err := io.WriteString(w, strings.ReplaceAll(b.String(), noBreak, " "))
	return err
}

// markdown writes the table. All columns but those of text are aligned to the right.
func (g textGrid) markdown(b *strings.Builder) {
	b.WriteByte('\n')
	if g.title != "" {
		fmt.Fprintf(b, "%s\n\n", markdownText(g.title))
	}
	line := func(cells []string) {
		for _, c := range cells {
			fmt.Fprintf(b, "| %s ", markdownText(c))
		}
		b.WriteString("|\n")
	}
	line(g.head)
	for _, h := range g.head {
		switch h {
		case "model", "standing", "A", "B", "":
			b.WriteString("| --- ")
		default:
			b.WriteString("| ---: ")
		}
	}
	b.WriteString("|\n")
	for _, row := range g.rows {
		line(row)
	}
}

// markdownText escapes what has a meaning in Markdown. Names come from the command line and from
// files.
func markdownText(s string) string {
	return strings.NewReplacer(
		`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "<", "&lt;", ">", "&gt;", "[", `\[`, "]", `\]`, "#", `\#`, "~", `\~`, "&", "&amp;",
	).Replace(s)
}

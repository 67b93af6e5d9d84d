package main

import (
	"regexp"
	"strings"
)

// command is a command of the page with the output that the page shows.
type command struct {
	line int // of the page, from 1
	text string
	want []string
}

// parse returns the commands of a page: indented lines that start with "$ ". The indented
// lines that follow are the output; it ends at the next command or at the next paragraph.
func parse(page string) []command {
	var out []command
	inside := false
	for i, line := range strings.Split(page, "\n") {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case indented && strings.HasPrefix(code, "$ "):
			out = append(out, command{line: i + 1, text: code[2:]})
			inside = true
		case inside && (indented || line == ""):
			last := &out[len(out)-1]
			last.want = append(last.want, code)
		default:
			inside = false
		}
	}
	for i := range out {
		out[i].want = trim(out[i].want)
	}
	return out
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

// match reports whether lines are those of a pattern, in which "..." stands for any number
// of lines.
func match(pattern, lines []string) bool {
	if len(pattern) == 0 {
		return len(lines) == 0
	}
	if pattern[0] == "..." {
		for i := range len(lines) + 1 {
			if match(pattern[1:], lines[i:]) {
				return true
			}
		}
		return false
	}
	return len(lines) > 0 && stable(pattern[0]) == stable(lines[0]) && match(pattern[1:], lines[1:])
}

// variable are the figures that differ from run to run, with what takes their place.
var variable = []struct {
	figure *regexp.Regexp
	name   string
}{
	{regexp.MustCompile(`[\d,.]+ tokens/s`), "RATE"},
	{regexp.MustCompile(`\b[\d,.]+ (s|ms)\b`), "TIME"},
	{regexp.MustCompile(`[\d,.]+ [KMG]iB peak memory`), "MEMORY"},
	{regexp.MustCompile(`\s+`), " "}, // columns are aligned to the widest figure
}

// stable returns a line without the figures that differ from run to run.
func stable(line string) string {
	for _, v := range variable {
		line = v.figure.ReplaceAllString(line, v.name)
	}
	return strings.TrimSpace(line)
}

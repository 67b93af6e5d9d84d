package main

import (
	"regexp"
	"strings"
)

// elision stands for any number of lines of output.
const elision = "..."

// match reports whether lines are those of a pattern, in which "..." stands for any number
// of lines.
func match(pattern, lines []string) bool {
	if len(pattern) == 0 {
		return len(lines) == 0
	}
	if pattern[0] == elision {
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
	{regexp.MustCompile(`\b[\d,.]+ (ms|s|min|h)\b`), "TIME"},
	{regexp.MustCompile(`[\d,.]+ [KMG]iB peak memory`), "MEMORY"},
}

// stable returns a line without the figures that differ from run to run, and without space at
// its end, which a page cannot show.
func stable(line string) string {
	for _, v := range variable {
		line = v.figure.ReplaceAllString(line, v.name)
	}
	return strings.TrimRight(line, " ")
}

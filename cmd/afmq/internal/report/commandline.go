package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// commandLine is a command for a POSIX shell. Each part is a flag with its value, or one word.
type commandLine struct{ parts []string }

// newCommand starts a command of afmq.
func newCommand(name string, operands ...string) *commandLine {
	c := &commandLine{parts: []string{"afmq " + name}}
	for _, o := range operands {
		c.parts = append(c.parts, shellPath(o))
	}
	return c
}

// flag adds a flag with a value that is no path.
func (c *commandLine) flag(name string, value any) *commandLine {
	text := fmt.Sprint(value)
	if f, ok := value.(float64); ok {
		text = strconv.FormatFloat(f, 'g', -1, 64)
	}
	c.parts = append(c.parts, "--"+name+" "+shellWord(text))
	return c
}

// flagIf is flag for a value that differs from the default.
func (c *commandLine) flagIf(name string, value, ordinary any) *commandLine {
	if value != ordinary {
		c.flag(name, value)
	}
	return c
}

// path adds a flag with a path.
func (c *commandLine) path(name, value string) *commandLine {
	c.parts = append(c.parts, "--"+name+" "+shellPath(value))
	return c
}

// paths adds a flag for each path.
func (c *commandLine) paths(name string, values []string) *commandLine {
	for _, v := range values {
		c.path(name, v)
	}
	return c
}

// on adds a switch.
func (c *commandLine) on(name string, when bool) *commandLine {
	if when {
		c.parts = append(c.parts, "--"+name)
	}
	return c
}

// to redirects the output.
func (c *commandLine) to(file string) *commandLine {
	c.parts = append(c.parts, "> "+shellPath(file))
	return c
}

func (c *commandLine) String() string { return strings.Join(c.parts, " ") }

// wrapped returns the command in lines of at most so many characters where its parts allow it,
// each but the last with a backslash at its end.
func (c *commandLine) wrapped(width int) string {
	var lines []string
	line := c.parts[0]
	for _, p := range c.parts[1:] {
		if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(p)+2 > width {
			lines = append(lines, line)
			line = "   "
		}
		line += " " + p
	}
	return strings.Join(append(lines, line), " \\\n")
}

// joinInts joins numbers with commas.
func joinInts(list []int) string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = strconv.Itoa(n)
	}
	return strings.Join(out, ",")
}

// Package manual generates documents from the output of `afmq help --json`: one page of
// Markdown, and a man page for each command. It depends only on the published object
// afmq.help/v1 and on no command, so the documents agree with the program.
//
// Help texts are plain text with aligned, indented blocks. Both documents preserve these
// blocks; cobra's own generators interpret the text as Markdown and would join their lines.
package manual

import "strings"

// Page is the description of a command or a help topic; the keys are those of afmq.help/v1.
type Page struct {
	Command  string  `json:"command"` // full name: "afmq quantize"
	Usage    string  `json:"usage"`   // empty for a topic
	Short    string  `json:"short"`
	Long     string  `json:"long"`
	Example  string  `json:"example,omitempty"`
	Commands []Entry `json:"commands"`
	Flags    []Flag  `json:"flags"`
}

// Entry is a subcommand.
type Entry struct {
	Name  string `json:"name"`
	Short string `json:"short"`
	Group string `json:"group,omitempty"` // heading in the list of commands
}

// Flag is a flag of a command.
type Flag struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Type      string `json:"type"`
	Value     string `json:"value,omitempty"` // placeholder of the value, such as FILE; empty for a flag without value
	Default   string `json:"default"`         // empty if there is none or if Usage describes it
	Required  bool   `json:"required"`
	Global    bool   `json:"global"` // a flag of every command
	Usage     string `json:"usage"`
}

// Spelling returns the flag as written on a command line: "--out DIR".
func (f Flag) Spelling() string {
	s := "--" + f.Name
	if f.Shorthand != "" {
		s = "-" + f.Shorthand + ", " + s
	}
	if f.Value != "" {
		s += " " + f.Value
	}
	return s
}

// ShownDefault returns the default to print: "" for a zero value, which means "not given",
// and if the usage text describes the default.
func (f Flag) ShownDefault() string {
	if f.Default == "0" || f.Default == "false" || strings.Contains(f.Usage, "(default") {
		return ""
	}
	return f.Default
}

// own returns the page's flags without --help and global flags.
func (p Page) own() []Flag {
	var own []Flag
	for _, f := range p.Flags {
		if !f.Global && f.Name != "help" {
			own = append(own, f)
		}
	}
	return own
}

// name returns the command without the name of the program; for the program itself, its name.
func (p Page) name() string {
	_, name, found := strings.Cut(p.Command, " ")
	if !found {
		return p.Command
	}
	return name
}

// part is a paragraph or an indented block of a text.
type part struct {
	lines []string
	plain bool // an indented block, printed unchanged
}

// parts splits a text into paragraphs and indented blocks. A blank line ends a paragraph;
// between two indented lines it belongs to the block.
func parts(text string) []part {
	var all []part
	blank := true
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.TrimSpace(line) == "" {
			blank = true
			continue
		}
		plain := strings.HasPrefix(line, "  ")
		switch last := len(all) - 1; {
		case last >= 0 && plain && all[last].plain:
			if blank {
				all[last].lines = append(all[last].lines, "")
			}
			all[last].lines = append(all[last].lines, line)
		case last >= 0 && !plain && !all[last].plain && !blank:
			all[last].lines = append(all[last].lines, line)
		default:
			all = append(all, part{[]string{line}, plain})
		}
		blank = false
	}
	return all
}

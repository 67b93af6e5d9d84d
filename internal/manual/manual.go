// Package manual turns what `afmq help --json` prints into documents: one page of Markdown
// and a man page for each command. It knows help as the published object afmq.help/v1
// describes it and no command, so that a document says what the program says.
//
// Texts of commands are plain text with aligned, indented parts. Both documents keep these
// as they stand; cobra's own generators would run them together, as they take a text for
// Markdown.
package manual

import "strings"

// Page is the description of a command or of a topic; the keys are those of afmq.help/v1.
type Page struct {
	Command  string  `json:"command"` // with those above it: "afmq quantize"
	Usage    string  `json:"usage"`   // empty for a topic
	Short    string  `json:"short"`
	Long     string  `json:"long"`
	Example  string  `json:"example,omitempty"`
	Commands []Entry `json:"commands"`
	Flags    []Flag  `json:"flags"`
}

// Entry is a command below another.
type Entry struct {
	Name  string `json:"name"`
	Short string `json:"short"`
	Group string `json:"group,omitempty"` // heading that help lists it under
}

// Flag is a flag of a command.
type Flag struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Type      string `json:"type"`
	Value     string `json:"value,omitempty"` // what stands for its value in usage: FILE; empty for a switch
	Default   string `json:"default"`         // empty for none, or where Usage says it
	Required  bool   `json:"required"`
	Global    bool   `json:"global"` // every command has it
	Usage     string `json:"usage"`
}

// Spelling returns the flag as a command line has it: "--out DIR".
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

// ShownDefault returns the default that a reader has to know: "" for a zero value, which
// stands for "not given", and where the usage says what then holds.
func (f Flag) ShownDefault() string {
	if f.Default == "0" || f.Default == "false" || strings.Contains(f.Usage, "(default") {
		return ""
	}
	return f.Default
}

// own returns the page's flags without help and those of every command.
func (p Page) own() []Flag {
	var own []Flag
	for _, f := range p.Flags {
		if !f.Global && f.Name != "help" {
			own = append(own, f)
		}
	}
	return own
}

// name returns the command without the program's name, which alone is returned whole.
func (p Page) name() string {
	_, name, found := strings.Cut(p.Command, " ")
	if !found {
		return p.Command
	}
	return name
}

// part is a run of lines of a text.
type part struct {
	lines []string
	plain bool // indented: to be kept as it stands
}

// parts cuts a text into paragraphs and indented runs. A blank line ends a paragraph;
// between two indented lines it belongs to the run.
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

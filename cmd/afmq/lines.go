package main

import (
	"bufio"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"afmq/pkg/fault"
)

// newLines returns the lines of standard input: of a terminal with editing and a history, else as
// they are.
func newLines(a *app) lines {
	in := int(os.Stdin.Fd())
	if out, ok := a.stderr.(*os.File); ok && !a.wantJSON && term.IsTerminal(in) && term.IsTerminal(int(out.Fd())) {
		t := &terminalLines{in: in, out: out}
		t.terminal = term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{os.Stdin, out}, "")
		return t
	}
	s := bufio.NewScanner(os.Stdin)
	s.Buffer(nil, maxStandardInput)
	return plainLines{s}
}

// plainLines are the lines of a file or a pipe.
type plainLines struct{ s *bufio.Scanner }

func (p plainLines) next(string) (string, error) {
	if p.s.Scan() {
		return strings.TrimSuffix(p.s.Text(), "\r"), nil
	}
	if err := p.s.Err(); err != nil {
		return "", fault.Reading("standard input", err)
	}
	return "", io.EOF
}

// terminalLines are lines that a person types. The terminal is in raw mode only while a line is
// edited, so that Ctrl-C is a signal while an answer is generated.
type terminalLines struct {
	in       int
	out      *os.File
	terminal *term.Terminal
}

func (t *terminalLines) next(prompt string) (string, error) {
	state, err := term.MakeRaw(t.in)
	if err != nil {
		return "", fault.Reading("the terminal", err)
	}
	defer func() { _ = term.Restore(t.in, state) }()
	if width, height, err := term.GetSize(t.in); err == nil && width > 0 && height > 0 {
		_ = t.terminal.SetSize(width, height)
	}
	t.terminal.SetPrompt(prompt)
	line, err := t.terminal.ReadLine()
	if err == io.EOF { // Ctrl-C or Ctrl-D
		_, _ = io.WriteString(t.out, "\r\n")
	}
	if err == term.ErrPasteIndicator { // a line that was pasted is a line
		err = nil
	}
	return line, err
}

package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"afmq/pkg/fault"
)

// lines are the lines of the user.
type lines interface {
	// next returns the next line. io.EOF ends the chat. Once the context ends, its cause is the error.
	next(ctx context.Context, prompt string) (string, error)
}

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

// await returns the line that read returns. A read of standard input cannot be interrupted: once the
// context ends, it is left behind, and no other may begin.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := read()
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// checkMessage refuses what is no text, as eval.ParseTexts refuses a file.
func checkMessage(text string) error {
	for i, r := range text {
		if r == 0 {
			return fault.Inputf("standard input", "a message is not text: NUL byte at offset %d", i)
		}
		if r != utf8.RuneError {
			continue
		}
		if _, n := utf8.DecodeRuneInString(text[i:]); n == 1 {
			return fault.Inputf("standard input", "a message is not UTF-8 text: invalid byte 0x%02x at offset %d", text[i], i)
		}
	}
	return nil
}

// plainLines are the lines of a file or a pipe.
type plainLines struct{ s *bufio.Scanner }

func (p plainLines) next(ctx context.Context, _ string) (string, error) {
	return await(ctx, func() (string, error) {
		if p.s.Scan() {
			return strings.TrimSuffix(p.s.Text(), "\r"), nil
		}
		if err := p.s.Err(); err != nil {
			return "", fault.Reading("standard input", err)
		}
		return "", io.EOF
	})
}

// terminalLines are lines that a person types. The terminal is in raw mode only while a line is
// edited, so that Ctrl-C is a signal while an answer is generated.
type terminalLines struct {
	in       int
	out      *os.File
	terminal *term.Terminal
}

func (t *terminalLines) next(ctx context.Context, prompt string) (string, error) {
	state, err := term.MakeRaw(t.in)
	if err != nil {
		return "", fault.Reading("the terminal", err)
	}
	defer func() { _ = term.Restore(t.in, state) }()
	if width, height, err := term.GetSize(t.in); err == nil && width > 0 && height > 0 {
		_ = t.terminal.SetSize(width, height)
	}
	t.terminal.SetPrompt(prompt)
	line, err := await(ctx, t.terminal.ReadLine)
	if err == io.EOF || ctx.Err() != nil { // Ctrl-C, Ctrl-D or a signal
		_, _ = io.WriteString(t.out, "\r\n")
	}
	if err == term.ErrPasteIndicator { // a line that was pasted is a line
		err = nil
	}
	return line, err
}

// Package fault gives an error its place in the command line's contract: which
// exit code it ends with, which file it is about, and what a person may try.
//
// Every package returns ordinary errors; one that knows why an operation cannot
// work returns, or wraps, an [*Error]. Only the command line turns a [Kind] into
// an exit code, in one place.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode"
)

// Kind says whose problem an error is. The zero value means that nobody
// classified it: a bug, or a failure of the machine.
type Kind uint8

const (
	Unexpected Kind = iota // exit 1: a bug or a failing machine
	Usage                  // exit 2: the command line itself is wrong
	Input                  // exit 3: a file given by the user cannot be used
	Infeasible             // exit 4: a well-formed request that nothing can satisfy
	Gate                   // exit 5: a limit the user set was passed
	Output                 // exit 6: the result cannot be written
)

// String returns the stable name that machine-readable errors carry as code.
func (k Kind) String() string {
	switch k {
	case Usage:
		return "usage"
	case Input:
		return "bad_input"
	case Infeasible:
		return "infeasible"
	case Gate:
		return "gate_failed"
	case Output:
		return "cannot_write"
	}
	return "unexpected"
}

// Error is a classified error. Its text is one line: the file, then what is
// wrong with it. The hint is for people and is not part of the text.
type Error struct {
	Kind Kind
	File string // the file or directory it is about; empty if none
	Msg  string // what is wrong and where: tensor, key, offset; lower case, no final stop
	Hint string // what to try; may be empty
	Err  error  // the cause; may be nil
}

// Error returns "FILE: MSG: CAUSE", leaving out what is empty. Control characters, which a
// name or an expression that it quotes may hold, are escaped: it is one line.
func (e *Error) Error() string {
	s := e.Msg
	if e.File != "" {
		s = e.File + ": " + s
	}
	if e.Err != nil {
		s += ": " + cause(e.Err)
	}
	return escapeControls(s)
}

func escapeControls(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			quoted := strconv.QuoteRune(r) // '\n'
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// cause drops the paths of an *fs.PathError or *os.LinkError: File names the path already.
func cause(err error) string {
	switch e := err.(type) {
	case *fs.PathError:
		return e.Err.Error()
	case *os.LinkError:
		return e.Err.Error()
	}
	return err.Error()
}

// Inputf reports that file cannot be used as it is.
func Inputf(file, format string, args ...any) *Error {
	return &Error{Kind: Input, File: file, Msg: fmt.Sprintf(format, args...)}
}

// Usagef reports a wrong command line.
func Usagef(format string, args ...any) *Error {
	return &Error{Kind: Usage, Msg: fmt.Sprintf(format, args...)}
}

// Infeasiblef reports a well-formed request that cannot be satisfied.
func Infeasiblef(format string, args ...any) *Error {
	return &Error{Kind: Infeasible, Msg: fmt.Sprintf(format, args...)}
}

// Reading classifies err, met while reading file, as bad input. An error that is
// classified already keeps its class; nil stays nil.
func Reading(file string, err error) error {
	return classify(Input, file, "cannot be read", err)
}

// Writing classifies err, met while writing file, as an output error. An error
// that is classified already keeps its class; nil stays nil.
func Writing(file string, err error) error {
	e := classify(Output, file, "cannot be written", err)
	var fe *Error
	if errors.As(e, &fe) && fe.Kind == Output && fe.Hint == "" && errors.Is(err, syscall.ENOSPC) {
		fe.Hint = "free some space, or choose another directory with --out"
	}
	return e
}

func classify(k Kind, file, msg string, err error) error {
	var fe *Error
	if err == nil || errors.As(err, &fe) {
		return err
	}
	return &Error{Kind: k, File: file, Msg: msg, Err: err}
}

// KindOf returns the class of err, Unexpected if it has none.
func KindOf(err error) Kind {
	var fe *Error
	if errors.As(err, &fe) {
		return fe.Kind
	}
	return Unexpected
}

// WithHint returns a copy of e that carries a hint for people.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

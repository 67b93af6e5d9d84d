// Package fault classifies errors: by the exit code that they end the program with, the
// file that they concern, and a hint for the user.
//
// All packages return ordinary errors. A package that knows the cause returns or wraps
// an [*Error]. Only the command line maps a [Kind] to an exit code.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// Kind is the class of an error. The zero value is an unclassified error: a bug or a
// failure of the machine.
type Kind uint8

const (
	Unexpected   Kind = iota // exit 1: a bug or a failure of the machine
	Usage                    // exit 2: the command line is invalid
	Input                    // exit 3: an input file cannot be used
	Infeasible               // exit 4: a valid request that cannot be satisfied
	Gate                     // exit 5: a limit set by the user was exceeded
	Output                   // exit 6: the output cannot be written
	Inconclusive             // exit 7: the text is too short to decide whether a limit is met
)

// String returns the stable name that JSON errors have as code.
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
	case Inconclusive:
		return "inconclusive"
	}
	return "unexpected"
}

// Error is a classified error. Its text is one line: the file, then the problem. The
// hint is not part of the text.
type Error struct {
	Kind Kind
	File string // the file or directory concerned; may be empty
	Msg  string // the problem and its location (tensor, key, offset); lower case, no final period
	Hint string // what the user can do; may be empty
	Err  error  // the cause; may be nil
}

// Error returns "FILE: MSG: CAUSE" without the empty parts. Control characters, which a
// quoted name may contain, are escaped, so that the text is one line.
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

// Inputf returns an error of kind Input about file.
func Inputf(file, format string, args ...any) *Error {
	return &Error{Kind: Input, File: file, Msg: fmt.Sprintf(format, args...)}
}

// Usagef returns an error of kind Usage.
func Usagef(format string, args ...any) *Error {
	return &Error{Kind: Usage, Msg: fmt.Sprintf(format, args...)}
}

// Infeasiblef returns an error of kind Infeasible.
func Infeasiblef(format string, args ...any) *Error {
	return &Error{Kind: Infeasible, Msg: fmt.Sprintf(format, args...)}
}

// Reading returns err, which occurred while reading file, as an error of kind Input. A
// classified error and nil are returned unchanged.
func Reading(file string, err error) error {
	return allow(classify(Input, file, "cannot be read", err), Input, "make it readable for this user (chmod, chown), or run as another")
}

// allow adds a hint to an error of kind k without one, if the system refused access.
func allow(err error, k Kind, hint string) error {
	var fe *Error
	if errors.As(err, &fe) && fe.Kind == k && fe.Hint == "" && errors.Is(err, fs.ErrPermission) {
		fe.Hint = hint
	}
	return err
}

// Writing returns err, which occurred while writing file, as an error of kind Output,
// with a hint if the disk is full. A classified error and nil are returned unchanged.
func Writing(file string, err error) error {
	e := classify(Output, file, "cannot be written", err)
	var fe *Error
	if errors.As(e, &fe) && fe.Kind == Output && fe.Hint == "" && diskFull(err) {
		fe.Hint = "free some space, or choose another directory with --out"
	}
	return allow(e, Output, "choose a directory that this user may write to")
}

func classify(k Kind, file, msg string, err error) error {
	var fe *Error
	if err == nil || errors.As(err, &fe) {
		return err
	}
	return &Error{Kind: k, File: file, Msg: msg, Err: err}
}

// KindOf returns the kind of err, Unexpected if it is not classified.
func KindOf(err error) Kind {
	var fe *Error
	if errors.As(err, &fe) {
		return fe.Kind
	}
	return Unexpected
}

// WithHint returns a copy of e with a hint for the user.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

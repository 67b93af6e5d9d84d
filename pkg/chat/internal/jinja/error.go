package jinja

import (
	"errors"
	"fmt"
)

// Kind says whose problem an [Error] is.
type Kind uint8

// The kinds of errors.
const (
	Syntax  Kind = iota // the template is not valid Jinja
	Raised              // the template called raise_exception
	Failed              // an operation that fails in Python too, as None + "x"
	Refused             // valid Jinja that this package does not render
	Limit               // a budget is exhausted
)

// Error is a template's error with its place.
type Error struct {
	Kind Kind
	Line int // of the template, from 1; 0 is unknown
	Msg  string
}

// Error returns the message, after the line if it is known.
func (e *Error) Error() string {
	if e.Line == 0 || e.Kind == Raised {
		return e.Msg
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Msg)
}

func syntaxf(line int, format string, args ...any) error {
	return &Error{Syntax, line, fmt.Sprintf(format, args...)}
}

func failf(format string, args ...any) error {
	return &Error{Failed, 0, fmt.Sprintf(format, args...)}
}

func refusef(format string, args ...any) error {
	return &Error{Refused, 0, fmt.Sprintf(format, args...) + " is not supported"}
}

// at gives an error the line of the innermost expression that it passes through.
func at(line int, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Line == 0 {
		e.Line = line
	}
	return err
}

package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	tEOF kind = iota
	tData
	tVarBegin
	tVarEnd
	tBlockBegin
	tBlockEnd
	tName
	tString
	tInt
	tFloat
	tOp
)

type token struct {
	kind kind
	text string // the name, the operator, the value of a string, the text of data
	line int
}

func (t token) String() string {
	switch t.kind {
	case tEOF:
		return "end of template"
	case tVarEnd:
		return "end of print statement"
	case tBlockEnd:
		return "end of statement block"
	}
	return t.text
}

// lexer makes tokens as jinja2.lexer does with trim_blocks and lstrip_blocks.
type lexer struct {
	src          string
	pos          int
	line         int
	lineStarting bool // the last tag ended after a newline: a block here may lose its indent
	balance      []byte
	tokens       []token
}

var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

func lex(src string) ([]token, error) {
	src = strings.TrimSuffix(newlines.Replace(src), "\n")
	l := &lexer{src: src, line: 1, lineStarting: true}
	for l.pos < len(src) {
		if err := l.root(); err != nil {
			return nil, err
		}
	}
	l.emit(tEOF, "")
	return l.tokens, nil
}

func (l *lexer) emit(k kind, text string) {
	l.tokens = append(l.tokens, token{k, text, l.line})
}

func (l *lexer) data(text string) {
	if text != "" {
		l.emit(tData, text)
	}
}

// advance moves to end and counts lines.
func (l *lexer) advance(end int) {
	l.line += strings.Count(l.src[l.pos:end], "\n")
	l.pos = end
}

// root takes the text up to the next tag, and the tag.
func (l *lexer) root() error {
	rest := l.src[l.pos:]
	tag := nextTag(rest)
	if tag < 0 {
		l.data(rest)
		l.advance(len(l.src))
		return nil
	}
	begin := l.pos + tag
	after, sign := l.sign(begin + 2)
	l.data(l.strip(rest[:tag], sign, l.src[begin+1] == '{'))
	l.advance(begin)
	switch l.src[begin+1] {
	case '#':
		return l.comment(after)
	case '{':
		l.emit(tVarBegin, "{{")
		l.pos = after
		return l.inside(tVarEnd, "}}")
	}
	if end, newline := l.wordTag(begin, "raw"); end >= 0 {
		return l.raw(end, newline)
	}
	l.emit(tBlockBegin, "{%")
	l.pos = after
	return l.inside(tBlockEnd, "%}")
}

func nextTag(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && (s[i+1] == '%' || s[i+1] == '#' || s[i+1] == '{') {
			return i
		}
	}
	return -1
}

// isSpace is Python's str.isspace for one character.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
}

func isNameRune(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || r > utf8.RuneSelf && unicode.IsMark(r)
}

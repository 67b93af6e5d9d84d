package jinja

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	floatRE = regexp.MustCompile(`^(?i:(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+\-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+))`)
	intRE   = regexp.MustCompile(`^(?i:0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*)`)
)

// operators has the longer ones first.
var operators = []string{
	"//", "**", "==", "!=", ">=", "<=",
	"+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";",
}

// inside takes the tokens of a tag, to its delimiter.
func (l *lexer) inside(end kind, delimiter string) error {
	l.balance = l.balance[:0]
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		if len(l.balance) == 0 {
			sign := byte(0)
			if rest[0] == '-' || rest[0] == '+' && end == tBlockEnd {
				sign = rest[0]
				rest = rest[1:]
			}
			if strings.HasPrefix(rest, delimiter) {
				l.emit(end, delimiter)
				l.advance(l.tagEnd(len(l.src)-len(rest)+2, sign, end == tBlockEnd))
				return nil
			}
			rest = l.src[l.pos:]
		}
		if err := l.one(rest); err != nil {
			return err
		}
	}
	return nil
}

func (l *lexer) one(rest string) error {
	if next := l.skipSpace(l.pos); next > l.pos {
		l.advance(next)
		return nil
	}
	if c := rest[0]; c >= '0' && c <= '9' {
		return l.number(rest)
	}
	if n := len(rest) - len(strings.TrimLeftFunc(rest, isNameRune)); n > 0 {
		l.emit(tName, rest[:n])
		l.pos += n
		return nil
	}
	if rest[0] == '\'' || rest[0] == '"' {
		return l.str(rest)
	}
	for _, op := range operators {
		if strings.HasPrefix(rest, op) {
			return l.operator(op)
		}
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return syntaxf(l.line, "unexpected character %q", r)
}

func (l *lexer) number(rest string) error {
	k, text := tFloat, ""
	if l.pos == 0 || l.src[l.pos-1] != '.' {
		text = floatRE.FindString(rest)
	}
	if text == "" {
		k, text = tInt, intRE.FindString(rest)
	}
	l.emit(k, strings.ReplaceAll(text, "_", ""))
	l.pos += len(text)
	return nil
}

func (l *lexer) operator(op string) error {
	switch op {
	case "{":
		l.balance = append(l.balance, '}')
	case "(":
		l.balance = append(l.balance, ')')
	case "[":
		l.balance = append(l.balance, ']')
	case "}", ")", "]":
		n := len(l.balance)
		if n == 0 || l.balance[n-1] != op[0] {
			return syntaxf(l.line, "unexpected %q", op)
		}
		l.balance = l.balance[:n-1]
	}
	l.emit(tOp, op)
	l.pos += len(op)
	return nil
}

// str takes a string in quotes.
func (l *lexer) str(rest string) error {
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case rest[0]:
			text, err := unescape(rest[1:i])
			if err != nil {
				return at(l.line, err)
			}
			l.emit(tString, text)
			l.advance(l.pos + i + 1)
			return nil
		}
	}
	return syntaxf(l.line, "unexpected character %q", rest[0])
}

var simpleEscapes = map[byte]string{
	'\n': "", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f",
	'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

// unescape decodes the escapes of Python's strings. An unknown one stands for itself.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if text, ok := simpleEscapes[s[i]]; ok {
			b.WriteString(text)
			continue
		}
		n, err := numericEscape(&b, s[i:])
		if err != nil {
			return "", err
		}
		if n == 0 {
			b.WriteByte('\\')
			b.WriteByte(s[i])
			n = 1
		}
		i += n - 1
	}
	return b.String(), nil
}

// numericEscape decodes \xhh, \uhhhh, \Uhhhhhhhh and \ooo, without the backslash, and returns
// the bytes it took; 0 if s is none.
func numericEscape(b *strings.Builder, s string) (int, error) {
	digits, base, first := 0, 16, 1
	switch c := s[0]; {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c == 'N':
		return 0, refusef(`the escape \N{...}`)
	case c >= '0' && c <= '7':
		base, first = 8, 0
		for digits < 3 && digits < len(s) && s[digits] >= '0' && s[digits] <= '7' {
			digits++
		}
	default:
		return 0, nil
	}
	if first+digits > len(s) {
		return 0, syntaxf(0, `truncated \%c escape`, s[0])
	}
	n, err := strconv.ParseUint(s[first:first+digits], base, 32)
	if err != nil || n > 0x10ffff {
		return 0, syntaxf(0, `invalid \%c escape`, s[0])
	}
	if n >= 0xd800 && n < 0xe000 {
		return 0, refusef("a surrogate in a string")
	}
	b.WriteRune(rune(n))
	return first + digits, nil
}

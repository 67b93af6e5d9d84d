package jinja

import (
	"strings"
)

// sign returns the whitespace control at pos, and the position after it.
func (l *lexer) sign(pos int) (int, byte) {
	if pos < len(l.src) && (l.src[pos] == '-' || l.src[pos] == '+') {
		return pos + 1, l.src[pos]
	}
	return pos, 0
}

// strip removes from the text before a tag what its whitespace control says: all space for
// "-", and without a control the indent of a block that begins its line.
func (l *lexer) strip(text string, sign byte, variable bool) string {
	if sign == '-' {
		return strings.TrimRightFunc(text, isSpace)
	}
	if sign == '+' || variable {
		return text
	}
	start := strings.LastIndexByte(text, '\n') + 1
	if (start > 0 || l.lineStarting) && strings.TrimLeftFunc(text[start:], isSpace) == "" {
		return text[:start]
	}
	return text
}

func (l *lexer) comment(from int) error {
	i := strings.Index(l.src[from:], "#}")
	if from == len(l.src) { // as jinja2
		l.advance(from)
		return nil
	}
	if i < 0 {
		return syntaxf(l.line, "missing end of comment tag")
	}
	end := from + i
	sign := byte(0)
	if end > from && (l.src[end-1] == '-' || l.src[end-1] == '+') {
		sign = l.src[end-1]
	}
	l.advance(l.tagEnd(end+2, sign, true))
	return nil
}

// tagEnd returns where the text after a tag begins, whose delimiter ends at pos: all space is
// skipped for "-", and the first newline after a block or comment.
func (l *lexer) tagEnd(pos int, sign byte, trim bool) int {
	if sign == '-' {
		pos = l.skipSpace(pos)
	} else if trim && sign != '+' && pos < len(l.src) && l.src[pos] == '\n' {
		pos++
	}
	l.lineStarting = l.src[pos-1] == '\n'
	return pos
}

func (l *lexer) skipSpace(pos int) int {
	return len(l.src) - len(strings.TrimLeftFunc(l.src[pos:], isSpace))
}

// wordTag returns the position after the delimiter of a tag of one word at pos, without what
// the delimiter's control skips, and that control; -1 if another tag is there.
func (l *lexer) wordTag(pos int, word string) (int, byte) {
	pos, _ = l.sign(pos + 2)
	pos = l.skipSpace(pos)
	if !strings.HasPrefix(l.src[pos:], word) {
		return -1, 0
	}
	pos, sign := l.sign(l.skipSpace(pos + len(word)))
	if !strings.HasPrefix(l.src[pos:], "%}") {
		return -1, 0
	}
	return pos + 2, sign
}

// raw takes the text of a raw block, whose first tag's delimiter ends at from.
func (l *lexer) raw(from int, sign byte) error {
	if sign == '+' { // the expression of jinja2 has no "+" here
		return syntaxf(l.line, "unexpected %q in a raw tag", "+")
	}
	l.advance(l.tagEnd(from, sign, false))
	if l.pos == len(l.src) { // as jinja2
		return nil
	}
	for i := l.pos; ; {
		n := strings.Index(l.src[i:], "{%")
		if n < 0 {
			return syntaxf(l.line, "missing end of raw directive")
		}
		begin := i + n
		if end, endSign := l.wordTag(begin, "endraw"); end >= 0 {
			_, beginSign := l.sign(begin + 2)
			l.data(l.strip(l.src[l.pos:begin], beginSign, false))
			l.advance(l.tagEnd(end, endSign, true))
			return nil
		}
		i = begin + 2
	}
}

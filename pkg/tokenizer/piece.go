package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// piece is a part of the text in the pipeline, with the offset in the input text of each
// of its bytes.
type piece struct {
	s string
	// off[i] is the offset in the input text of byte i of s, for i up to and
	// including len(s); it never decreases. nil means that s is the input text from
	// base on, unchanged.
	off  []int32
	base int
	// late reports that in the official library the piece begins after the start of the
	// text although at(0) is 0. Only Metaspace's "first" depends on it.
	late bool
}

// newPiece returns a piece of the whole input text. Bytes that are not UTF-8 become
// U+FFFD, one for each maximal invalid part, as in Python's
// bytes.decode(errors="replace"). It panics if the text is longer than limit bytes, so
// that all offsets fit.
func newPiece(text string, limit int) piece {
	tooLong := func(n int) {
		if n > limit {
			panic(fmt.Sprintf("tokenizer: a text of %d bytes, of at most %d", n, limit))
		}
	}
	tooLong(len(text))
	if utf8.ValidString(text) {
		return piece{s: text}
	}
	var e editor
	for i := 0; i < len(text); {
		n, valid := nextChar(text, i)
		if valid {
			e.keep(piece{s: text}, i, i+n)
		} else {
			e.put("\uFFFD", i, i+n)
		}
		i += n
	}
	tooLong(len(e.s))
	return e.piece(len(text))
}

// at returns the offset in the input text of byte i of the piece.
func (p piece) at(i int) int {
	if p.off == nil {
		return p.base + i
	}
	return int(p.off[i])
}

// slice returns the bytes i to j of the piece.
func (p piece) slice(i, j int) piece {
	q := piece{s: p.s[i:j], base: p.base + i, late: p.late && i == 0}
	if p.off != nil {
		q.off = p.off[i : j+1]
	}
	return q
}

// from returns the piece with offsets of at least offset: its bytes before offset cover no
// input.
func (p piece) from(offset int) piece {
	off := make([]int32, len(p.s)+1)
	for i := range off {
		off[i] = int32(max(p.at(i), offset))
	}
	p.off = off
	return p
}

// prepend adds s, which covers no input, before the piece.
func (p piece) prepend(s string) piece {
	e := editor{late: p.late}
	e.grow(len(s) + len(p.s))
	e.put(s, p.at(0), p.at(0))
	e.keep(p, 0, len(p.s))
	return e.piece(p.at(len(p.s)))
}

// editor builds a changed piece from left to right.
type editor struct {
	s    []byte
	off  []int32
	late bool
}

func (e *editor) grow(n int) {
	e.s = make([]byte, 0, n)
	e.off = make([]int32, 0, n+1)
}

// keep copies bytes i to j of p.
func (e *editor) keep(p piece, i, j int) {
	e.s = append(e.s, p.s[i:j]...)
	if p.off != nil {
		e.off = append(e.off, p.off[i:j]...)
		return
	}
	for k := i; k < j; k++ {
		e.off = append(e.off, int32(p.base+k))
	}
}

// put appends s in place of the bytes from to until of the input text. If s is shorter,
// its last byte covers the rest; if it is longer, its end covers no input.
func (e *editor) put(s string, from, until int) {
	e.s = append(e.s, s...)
	for i := range len(s) {
		e.off = append(e.off, int32(min(from+i, until)))
	}
}

// piece returns the edited piece; until is its end in the input text.
func (e *editor) piece(until int) piece {
	return piece{s: string(e.s), off: append(e.off, int32(until)), late: e.late}
}

// nextChar returns the length of the character of s at i, or of the maximal invalid part
// there, and whether it is a valid character.
func nextChar[T string | []byte](s T, i int) (n int, valid bool) {
	if s[i] < utf8.RuneSelf {
		return 1, true
	}
	var buf [utf8.UTFMax]byte
	b := buf[:copy(buf[:], s[i:])]
	if r, size := utf8.DecodeRune(b); r != utf8.RuneError || size > 1 {
		return size, true
	}
	for n = 1; n < len(b) && !utf8.FullRune(b[:n]) && !utf8.FullRune(b[:n+1]); n++ {
	}
	return n, false
}

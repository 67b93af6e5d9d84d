package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Stream decodes the tokens of one text as they arrive. It must not be used concurrently.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	push        func(token string)
	flush       func()
	out         strings.Builder
}

// Stream returns a decoder for the tokens of one text. The concatenated results of Next and
// Flush are equal to the result of Decode for all ids.
func (t *Tokenizer) Stream(skipSpecial bool) *Stream {
	s := &Stream{t: t, skipSpecial: skipSpecial}
	s.push = func(token string) { s.out.WriteString(token) }
	s.flush = func() {}
	// Built from last to first: each decoder emits to the next one.
	for i := len(t.decoders) - 1; i >= 0; i-- {
		d, push, flush := t.decoders[i](), s.push, s.flush
		s.push = func(token string) { d.push(token, push) }
		s.flush = func() { d.flush(push); flush() }
	}
	return s
}

// StreamAfter returns a decoder for tokens that continue a text, the tokens of a prompt. Some decoders
// omit a space at the beginning of a text, which a continuation does not have. A character that begins
// in the prompt belongs to the continuation.
func (t *Tokenizer) StreamAfter(prompt []int32, skipSpecial bool) *Stream {
	s := t.Stream(skipSpecial)
	partial := t.partial(prompt)
	for i := len(prompt) - partial - 1; i >= 0; i-- {
		if t.isText(prompt[i]) {
			s.Next(prompt[i]) // any text takes the place of the beginning
			break
		}
	}
	for _, id := range prompt[len(prompt)-partial:] {
		s.Next(id)
	}
	return s
}

// partial returns how many tokens at the end of a text have the beginning of a character that is not
// complete; 0 if the text ends with a complete one.
func (t *Tokenizer) partial(ids []int32) int {
	var bytes []byte
	for n := 1; n <= min(len(ids), utf8.UTFMax-1); n++ {
		bytes = append(t.TokenBytes(ids[len(ids)-n]), bytes...)
		for at := len(bytes) - 1; at >= 0; at-- {
			if !utf8.RuneStart(bytes[at]) {
				continue
			}
			if utf8.FullRune(bytes[at:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

// isText reports whether a token is text by itself: it is not special, and no part of a character.
func (t *Tokenizer) isText(id int32) bool {
	token, ok := t.decoded(id)
	if _, isByte := byteToken(token); !ok || isByte || t.isSpecial(token) {
		return false
	}
	b := t.TokenBytes(id)
	return len(b) > 0 && utf8.Valid(b)
}

// Next adds a token and returns the text that can no longer change: complete characters,
// possibly none. Text is held back while a character is incomplete, and until the end of
// a run of byte tokens, because an invalid run is decoded differently as a whole. Unknown
// ids are omitted.
func (s *Stream) Next(id int32) string {
	token, ok := s.t.decoded(id)
	if !ok || s.skipSpecial && s.t.isSpecial(token) {
		return ""
	}
	s.push(token)
	return s.take()
}

// Flush ends the text and returns the part that was held back. The stream must not be used after it.
func (s *Stream) Flush() string {
	s.flush()
	return s.take()
}

func (s *Stream) take() string {
	text := s.out.String()
	s.out.Reset()
	return text
}

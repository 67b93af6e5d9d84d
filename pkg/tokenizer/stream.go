package tokenizer

import "strings"

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

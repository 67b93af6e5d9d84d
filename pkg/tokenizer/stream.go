package tokenizer

import "strings"

// Stream decodes tokens that arrive one at a time, for one text and one goroutine.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	push        func(token string)
	flush       func()
	out         strings.Builder
}

// Stream returns a decoder for the tokens of one text. What Next and Flush return,
// put together, is what Decode returns for all the ids.
func (t *Tokenizer) Stream(skipSpecial bool) *Stream {
	s := &Stream{t: t, skipSpecial: skipSpecial}
	s.push = func(token string) { s.out.WriteString(token) }
	s.flush = func() {}
	// From the last decoder to the first, each passes on to the one behind it.
	for i := len(t.decoders) - 1; i >= 0; i-- {
		d, push, flush := t.decoders[i](), s.push, s.flush
		s.push = func(token string) { d.push(token, push) }
		s.flush = func() { d.flush(push); flush() }
	}
	return s
}

// Next takes one more token and returns the text that became certain by it: whole
// characters, maybe none. Text is held back while a character is incomplete, and
// in a run of byte tokens until the run ends, since a run that is not UTF-8 decodes
// differently as a whole. An id that names no token is left out.
func (s *Stream) Next(id int32) string {
	token, ok := s.t.decoded(id)
	if !ok || s.skipSpecial && s.t.isSpecial(token) {
		return ""
	}
	s.push(token)
	return s.take()
}

// Flush returns the text that was held back. The stream must not be used after it.
func (s *Stream) Flush() string {
	s.flush()
	return s.take()
}

func (s *Stream) take() string {
	text := s.out.String()
	s.out.Reset()
	return text
}

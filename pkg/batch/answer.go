package batch

import (
	"slices"
	"strings"
	"unicode/utf8"

	"afmq/pkg/tokenizer"
)

// Answer is the text of a continuation, as its tokens arrive. It ends before the first of some
// strings, the stops, that is complete.
type Answer struct {
	stream  *tokenizer.Stream
	stops   []string
	stopIDs []int32 // stops that are special tokens, which the text omits

	text    strings.Builder // without what is held
	chars   int             // characters of text
	held    string          // may be the beginning of a stop
	stopped bool            // by a stop
	tokens  []Placed
	ending  *Token // the special token that stopped it; nil for none
}

// Placed is a token with its place in a text.
type Placed struct {
	Token
	Offset int // characters (Unicode code points) of the text before it
}

// NewAnswer returns an empty answer that continues the text of a prompt, or is a text of its own
// without one: some tokenizers omit a space at the beginning of a text, and a character may begin in
// the prompt. A stop must not be empty. One that is a special token ends the answer when it is
// generated.
func NewAnswer(t *tokenizer.Tokenizer, prompt []int32, stops []string) *Answer {
	a := &Answer{stream: t.StreamAfter(prompt, true)}
	for _, s := range stops {
		// A special token is no part of the text; another text may have the same form.
		if id, ok := t.TokenID(s); ok && t.Decode([]int32{id}, true) == "" && t.Decode([]int32{id}, false) == s {
			a.stopIDs = append(a.stopIDs, id)
		}
		a.stops = append(a.stops, s)
	}
	return a
}

// Add adds a token, and reports whether the text has come to a stop. It returns the text that can no
// longer change: what may be the beginning of a stop, or a part of a character, is held back.
func (a *Answer) Add(t Token) (text string, stop bool) {
	if slices.Contains(a.stopIDs, t.ID) {
		a.stopped, a.ending = true, &t
		return a.release(len(a.held)), true
	}
	a.tokens = append(a.tokens, Placed{t, a.chars + utf8.RuneCountInString(a.held)})
	return a.extend(a.stream.Next(t.ID))
}

// extend adds text, up to a stop.
func (a *Answer) extend(more string) (text string, stop bool) {
	a.held += more
	if at := firstStop(a.held, a.stops); at >= 0 {
		a.held = a.held[:at]
		a.stopped = true
		return a.release(at), true
	}
	return a.release(len(a.held) - partialStop(a.held, a.stops)), false
}

// End ends the text and returns what was held back.
func (a *Answer) End() string {
	text := ""
	if !a.stopped {
		text, _ = a.extend(a.stream.Flush())
	}
	return text + a.release(len(a.held))
}

// release moves the first n bytes of what is held to the text.
func (a *Answer) release(n int) string {
	text := a.held[:n]
	a.held = a.held[n:]
	a.text.WriteString(text)
	a.chars += utf8.RuneCountInString(text)
	return text
}

// firstStop returns where the stop begins in the text that is complete first, or -1. How the text is
// divided into tokens changes nothing in it.
func firstStop(text string, stops []string) int {
	first, end := -1, 0
	for _, s := range stops {
		at := strings.Index(text, s)
		if at >= 0 && (first < 0 || at+len(s) < end || at+len(s) == end && at < first) {
			first, end = at, at+len(s)
		}
	}
	return first
}

// partialStop returns the length of the longest end of the text that a stop begins with.
func partialStop(text string, stops []string) int {
	longest := 0
	for _, s := range stops {
		for n := min(len(s)-1, len(text)); n > longest; n-- {
			if strings.HasSuffix(text, s[:n]) {
				longest = n
			}
		}
	}
	return longest
}

// Text returns the text that can no longer change.
func (a *Answer) Text() string { return a.text.String() }

// Characters returns the number of characters (Unicode code points) of Text.
func (a *Answer) Characters() int { return a.chars }

// Tokens returns the tokens that were added, those of a stop included: they begin at the end of the
// text or after it. A special token that stopped the text is not among them.
func (a *Answer) Tokens() []Placed { return a.tokens }

// Stopped reports whether the text has come to a stop, and returns the special token that stopped
// it; nil for a text.
func (a *Answer) Stopped() (bool, *Token) { return a.stopped, a.ending }

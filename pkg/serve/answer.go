package serve

import (
	"slices"
	"strings"
	"unicode/utf8"

	"afmq/pkg/batch"
	"afmq/pkg/tokenizer"
)

// answer is the text of one sequence, as its tokens arrive.
type answer struct {
	tokenizer *tokenizer.Tokenizer
	stream    *tokenizer.Stream
	stops     []string
	stopIDs   []int32 // stops that are special tokens, which the text omits

	text    strings.Builder // without what is held
	chars   int             // characters of text
	held    string          // may be the beginning of a stop
	stopped bool            // by a stop
	written []written
	ending  *batch.Token // the special token that stopped it; nil for none
}

// written is a token with its place in the text.
type written struct {
	batch.Token
	offset int // characters of the text before it
}

func newAnswer(t *tokenizer.Tokenizer, stops []string) *answer {
	a := &answer{tokenizer: t, stream: t.Stream(true)}
	for _, s := range stops {
		// A special token is no part of the text; another text may have the same form.
		if id, ok := t.TokenID(s); ok && t.Decode([]int32{id}, true) == "" && t.Decode([]int32{id}, false) == s {
			a.stopIDs = append(a.stopIDs, id)
		}
		a.stops = append(a.stops, s)
	}
	return a
}

// add adds a token, and reports whether it ends the answer. It returns the text that can no longer
// change.
func (a *answer) add(t batch.Token) (text string, stop bool) {
	if slices.Contains(a.stopIDs, t.ID) {
		a.stopped, a.ending = true, &t
		return a.release(len(a.held)), true
	}
	a.written = append(a.written, written{t, a.chars + utf8.RuneCountInString(a.held)})
	return a.extend(a.stream.Next(t.ID))
}

// extend adds text, up to a stop.
func (a *answer) extend(more string) (text string, stop bool) {
	a.held += more
	if at := firstStop(a.held, a.stops); at >= 0 {
		a.held = a.held[:at]
		a.stopped = true
		text = a.release(at)
		// Tokens that begin after the end of the text are of the stop.
		a.written = slices.DeleteFunc(a.written, func(t written) bool { return t.offset >= a.chars })
		return text, true
	}
	return a.release(len(a.held) - partialStop(a.held, a.stops)), false
}

// end ends the text and returns what was held.
func (a *answer) end() string {
	text := ""
	if !a.stopped {
		text, _ = a.extend(a.stream.Flush())
	}
	return text + a.release(len(a.held))
}

// release moves the first n bytes of what is held to the text.
func (a *answer) release(n int) string {
	text := a.held[:n]
	a.held = a.held[n:]
	a.text.WriteString(text)
	a.chars += utf8.RuneCountInString(text)
	return text
}

// firstStop returns where the first of the stops begins in the text, or -1.
func firstStop(text string, stops []string) int {
	first := -1
	for _, s := range stops {
		if at := strings.Index(text, s); at >= 0 && (first < 0 || at < first) {
			first = at
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

// tokenText returns the text of a token in log-probabilities. A token that is a part of a character
// has its bytes, as "bytes:\xe2\x80".
func tokenText(t *tokenizer.Tokenizer, id int32) string {
	b := t.TokenBytes(id)
	if utf8.Valid(b) {
		return string(b)
	}
	var text strings.Builder
	text.WriteString("bytes:")
	const digits = "0123456789abcdef"
	for _, c := range b {
		text.WriteString(`\x`)
		text.WriteByte(digits[c>>4])
		text.WriteByte(digits[c&15])
	}
	return text.String()
}

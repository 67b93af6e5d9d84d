package serve

import (
	"strings"
	"unicode/utf8"

	"afmq/pkg/tokenizer"
)

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

package safetensors

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of ignored values. It is the bound of the reference
// implementation's JSON parser.
const maxDepth = 128

// scanner reads JSON (RFC 8259) value by value. encoding/json is unsuitable: it
// accepts duplicate keys, replaces invalid UTF-8 and accepts 1e3 as an integer. The
// text must be valid UTF-8. Errors give the byte offset in the text.
type scanner struct {
	text string
	pos  int
}

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf("at byte %d: %s", s.pos, fmt.Sprintf(format, args...))
}

// found describes the current position for an error.
func (s *scanner) found() string {
	if s.pos >= len(s.text) {
		return "the end"
	}
	r, _ := utf8.DecodeRuneInString(s.text[s.pos:])
	return fmt.Sprintf("%q", r)
}

func (s *scanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek skips space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.pos >= len(s.text) {
		return 0
	}
	return s.text[s.pos]
}

// take skips space and then the byte c, which is required.
func (s *scanner) take(c byte) error {
	if s.peek() != c {
		return s.errorf("expected %q, found %s", c, s.found())
	}
	s.pos++
	return nil
}

// end checks that nothing but space follows.
func (s *scanner) end() error {
	if s.space(); s.pos < len(s.text) {
		return s.errorf("trailing data after the JSON object: %s", s.found())
	}
	return nil
}

// object reads an object and calls member for each key, positioned at the value,
// which member must consume. Rejecting duplicate keys is up to member.
func (s *scanner) object(member func(key string) error) error {
	if err := s.take('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := s.take(':'); err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
		if s.peek() == '}' {
			s.pos++
			return nil
		}
		if err := s.take(','); err != nil {
			return err
		}
	}
}

// array reads an array and calls element at each value, which element must consume.
func (s *scanner) array(element func() error) error {
	if err := s.take('['); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.peek() == ']' {
			s.pos++
			return nil
		}
		if err := s.take(','); err != nil {
			return err
		}
	}
}

// str reads a string. Lone surrogates and raw control characters are errors.
func (s *scanner) str() (string, error) {
	if err := s.take('"'); err != nil {
		return "", err
	}
	var b strings.Builder
	start := s.pos // of the text that is not in b yet
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == '"':
			tail := s.text[start:s.pos]
			s.pos++
			if b.Len() == 0 {
				return strings.Clone(tail), nil // a copy, so that the whole text can be freed
			}
			b.WriteString(tail)
			return b.String(), nil
		case c < 0x20:
			return "", s.errorf("control character 0x%02x in a string", c)
		case c == '\\':
			b.WriteString(s.text[start:s.pos])
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
			start = s.pos
		default:
			s.pos++
		}
	}
	return "", s.errorf("unterminated string")
}

func (s *scanner) escape() (rune, error) {
	if s.pos+1 >= len(s.text) {
		return 0, s.errorf("unterminated string")
	}
	if i := strings.IndexByte(`"\/bfnrt`, s.text[s.pos+1]); i >= 0 {
		s.pos += 2
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	r, err := s.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if s.pos < len(s.text) && s.text[s.pos] == '\\' {
		low, err := s.hex4()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, s.errorf("lone surrogate in a string")
}

// hex4 reads \uXXXX.
func (s *scanner) hex4() (rune, error) {
	if len(s.text)-s.pos < 6 || s.text[s.pos+1] != 'u' {
		return 0, s.errorf("unknown escape in a string")
	}
	var r rune
	for _, c := range []byte(s.text[s.pos+2 : s.pos+6]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, s.errorf("unknown escape in a string")
		}
	}
	s.pos += 6
	return r, nil
}

// unsigned reads a non-negative integer of at most 64 bits.
func (s *scanner) unsigned() (uint64, error) {
	c := s.peek()
	if c < '0' || c > '9' {
		if c == '-' {
			return 0, s.errorf("negative number")
		}
		return 0, s.errorf("expected a number, found %s", s.found())
	}
	start := s.pos
	var v uint64
	for s.pos < len(s.text) && '0' <= s.text[s.pos] && s.text[s.pos] <= '9' {
		d := uint64(s.text[s.pos] - '0')
		if v > (1<<64-1-d)/10 {
			return 0, s.errorf("number exceeds 64 bits")
		}
		v = v*10 + d
		s.pos++
	}
	if s.text[start] == '0' && s.pos > start+1 {
		return 0, s.errorf("number has a leading zero")
	}
	if s.pos < len(s.text) && strings.IndexByte(".eE", s.text[s.pos]) >= 0 {
		return 0, s.errorf("number is not an integer")
	}
	return v, nil
}

// skip reads and discards a value of any kind at the given nesting depth.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.errorf("nested deeper than %d levels", maxDepth)
	}
	switch c := s.peek(); {
	case c == '{':
		return s.object(func(string) error { return s.skip(depth + 1) })
	case c == '[':
		return s.array(func() error { return s.skip(depth + 1) })
	case c == '"':
		_, err := s.str()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if s.word(word) {
			return nil
		}
	}
	return s.errorf("expected a value, found %s", s.found())
}

// word skips space and consumes the literal w if it follows.
func (s *scanner) word(w string) bool {
	s.space()
	if !strings.HasPrefix(s.text[s.pos:], w) {
		return false
	}
	s.pos += len(w)
	return true
}

// number reads and discards any JSON number.
func (s *scanner) number() error {
	digits := func() int {
		start := s.pos
		for s.pos < len(s.text) && '0' <= s.text[s.pos] && s.text[s.pos] <= '9' {
			s.pos++
		}
		return s.pos - start
	}
	next := func(set string) bool {
		if s.pos < len(s.text) && strings.IndexByte(set, s.text[s.pos]) >= 0 {
			s.pos++
			return true
		}
		return false
	}
	next("-")
	zero := next("0")
	if n := digits(); zero == (n > 0) {
		return s.errorf("malformed number")
	}
	if next(".") && digits() == 0 {
		return s.errorf("malformed number")
	}
	if next("eE") {
		next("+-")
		if digits() == 0 {
			return s.errorf("malformed number")
		}
	}
	return nil
}

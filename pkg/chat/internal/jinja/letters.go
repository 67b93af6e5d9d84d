package jinja

import (
	"strings"
	"unicode"
)

// special are the characters whose upper, lower or title case is several characters or depends
// on their place; Go's tables have one character for each.
const special = "ßİŉǰΐΰևẖẗẘẙẚẞὐὒὔὖΣσς"

// ordinary refuses a string with a character of special.
func ordinary(what, s string) error {
	for _, c := range s {
		if c > 0x7f && (strings.ContainsRune(special, c) || c >= 0x1f80 && c <= 0x1fff || c >= 0xfb00 && c <= 0xfb17) {
			return refusef("%s of %q", what, c)
		}
	}
	return nil
}

func upper(s string) (string, error) { return strings.ToUpper(s), ordinary("upper", s) }

func lower(s string) (string, error) { return strings.ToLower(s), ordinary("lower", s) }

func swapcase(s string) (string, error) {
	return strings.Map(func(c rune) rune {
		if unicode.IsUpper(c) {
			return unicode.ToLower(c)
		}
		return unicode.ToUpper(c)
	}, s), ordinary("swapcase", s)
}

func capitalize(s string) (string, error) {
	first := true
	return strings.Map(func(c rune) rune {
		if first {
			first = false
			return unicode.ToTitle(c)
		}
		return unicode.ToLower(c)
	}, s), ordinary("capitalize", s)
}

// title is str.title: a letter after what is no letter is in title case.
func title(s string) (string, error) {
	inside := false
	return strings.Map(func(c rune) rune {
		letter := unicode.IsUpper(c) || unicode.IsLower(c) || unicode.IsTitle(c)
		defer func() { inside = letter }()
		if inside {
			return unicode.ToLower(c)
		}
		return unicode.ToTitle(c)
	}, s), ordinary("title", s)
}

// titleWords is the filter title, whose words begin after space and brackets only.
func titleWords(s string) (string, error) {
	begin := true
	return strings.Map(func(c rune) rune {
		defer func() { begin = isSpace(c) || strings.ContainsRune("-({[<", c) }()
		if begin {
			return unicode.ToUpper(c)
		}
		return unicode.ToLower(c)
	}, s), ordinary("title", s)
}

package jinja

import (
	"unicode"
)

// every is a test of all characters of a string that is not empty.
func every(name string, test func(c rune) bool) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		if _, err := a.bind(name); err != nil {
			return nil, err
		}
		for _, c := range s {
			if c > unicode.MaxLatin1 && name != "isspace" && name != "isalpha" && !unicode.IsLetter(c) {
				return nil, refusef("%s of %q", name, c)
			}
			if c > 0x7f && unicode.IsNumber(c) {
				return nil, refusef("%s of %q", name, c)
			}
			if !test(c) {
				return false, nil
			}
		}
		return s != "", r.scan(s)
	}
}

// cased is a test of all characters that have a case, of which there must be one.
func cased(name string, test func(c rune) bool) stringMethod {
	return func(r *run, s string, a args) (Value, error) {
		if _, err := a.bind(name); err != nil {
			return nil, err
		}
		found := false
		for _, c := range s {
			if unicode.IsUpper(c) || unicode.IsLower(c) || unicode.IsTitle(c) {
				found = true
				if !test(c) {
					return false, nil
				}
			}
		}
		return found, r.scan(s)
	}
}

package tokenizer

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// unicodeData has the character classes and NFC data of the official library. The library
// mixes Unicode versions (16.0 in regular expressions, 9.0 in NFC), so the data differ from
// package unicode and from x/text at some code points. scripts/make_tokenizer_fixtures.py
// generated them by querying the library for every code point.
//
//go:embed unicode.txt
var unicodeData string

// class is a set of character properties.
type class uint16

const (
	letter     class = 1 << iota // \p{L}
	number                       // \p{N}
	space                        // \s
	numeric                      // digits of the Digits pre-tokenizer: \p{N} and a few ideographs
	word                         // \w, for single_word
	joins                        // NFC may reorder it or compose it with the character before
	decomposes                   // has a canonical decomposition
	upper                        // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
	lower                        // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
)

// tables is the parsed form of unicodeData.
type tables struct {
	pages     [0x1100]*[256]class // classes of code point c: pages[c>>8][c&255]
	ascii     [utf8.RuneSelf]class
	ccc       map[rune]uint8 // canonical combining classes other than 0
	decompose map[rune][2]rune
	compose   map[[2]rune]rune
	second    map[rune]bool // second characters of the pairs in compose
}

// chars returns the tables, which are parsed on first use.
var chars = sync.OnceValue(func() *tables {
	t := &tables{ccc: map[rune]uint8{}, decompose: map[rune][2]rune{}, compose: map[[2]rune]rune{}, second: map[rune]bool{}}
	blank := new([256]class)
	for i := range t.pages {
		t.pages[i] = blank
	}
	for line := range strings.Lines(unicodeData) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, arg, _ := strings.Cut(name, ":")
		fields := strings.Fields(rest)
		switch name {
		case "#":
		case "letter":
			t.mark(fields, letter)
		case "number":
			t.mark(fields, number)
		case "space":
			t.mark(fields, space)
		case "upper":
			t.mark(fields, upper)
		case "lower":
			t.mark(fields, lower)
		case "numeric":
			t.mark(fields, numeric)
		case "word":
			t.mark(fields, word)
		case "class":
			n, err := strconv.ParseUint(arg, 10, 8)
			if err != nil {
				panic(err)
			}
			each(fields, func(c rune) { t.ccc[c] = uint8(n) })
		case "compose", "decompose":
			for _, f := range fields {
				t.pair(f, name == "compose")
			}
		default:
			panic(fmt.Sprintf("tokenizer: unicode.txt has a line %q", name))
		}
	}
	for c := range t.ccc {
		t.add(c, joins)
	}
	for c := range t.second {
		t.add(c, joins)
	}
	for c := rune(hangulV); c < hangulT+hangulTs; c++ {
		t.add(c, joins)
	}
	for c := range t.decompose {
		t.add(c, decomposes)
		first := c
		for d, ok := t.decompose[first]; ok; d, ok = t.decompose[first] {
			first = d[0]
		}
		t.add(c, t.of(first)&joins)
	}
	copy(t.ascii[:], t.pages[0][:])
	return t
})

// each calls f for every code point in fields like "41-5a".
func each(fields []string, f func(c rune)) {
	for _, s := range fields {
		lo, hi, isRange := strings.Cut(s, "-")
		if !isRange {
			hi = lo
		}
		for c := codePoint(lo); c <= codePoint(hi); c++ {
			f(c)
		}
	}
}

func codePoint(s string) rune {
	c, err := strconv.ParseInt(s, 16, 32)
	if err != nil {
		panic(err)
	}
	return rune(c)
}

func (t *tables) mark(fields []string, k class) {
	each(fields, func(c rune) { t.add(c, k) })
}

// add adds a class to c.
func (t *tables) add(c rune, k class) {
	blank := t.pages[len(t.pages)-1] // plane 16 has private-use characters only
	page := &t.pages[c>>8]
	if *page == blank {
		*page = new([256]class)
	}
	(*page)[c&0xff] |= k
}

// pair reads "c0=41+300", a decomposition and, with compose, its inverse.
func (t *tables) pair(s string, compose bool) {
	whole, parts, _ := strings.Cut(s, "=")
	a, b, two := strings.Cut(parts, "+")
	d := [2]rune{codePoint(a), 0}
	if two {
		d[1] = codePoint(b)
	}
	t.decompose[codePoint(whole)] = d
	if compose {
		t.compose[d] = codePoint(whole)
		t.second[d[1]] = true
	}
}

// of returns the classes of c.
func (t *tables) of(c rune) class {
	return t.pages[c>>8][c&0xff]
}

// at returns the classes of the character of s at i and its length.
func (t *tables) at(s string, i int) (class, int) {
	if b := s[i]; b < utf8.RuneSelf {
		return t.ascii[b], 1
	}
	c, n := utf8.DecodeRuneInString(s[i:])
	return t.of(c), n
}

// run returns the end of the characters from i on that have one of the classes
// in any (if have is true), or none of them (if false).
func (t *tables) run(s string, i int, any class, have bool) int {
	for i < len(s) {
		k, n := t.at(s, i)
		if (k&any != 0) != have {
			break
		}
		i += n
	}
	return i
}

// trimRight returns where the white space at the end of s begins, at least from.
func (t *tables) trimRight(s string, from int) int {
	end := len(s)
	for end > from {
		c, n := utf8.DecodeLastRuneInString(s[from:end])
		if t.of(c)&space == 0 {
			break
		}
		end -= n
	}
	return end
}

package tokenizer

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// unicodeData holds the character classes and the NFC data that the official
// library uses. It mixes Unicode versions (the expressions follow 16.0, NFC
// follows 9.0), so neither the unicode package nor x/text agrees with it on every
// code point; scripts/make_tokenizer_fixtures.py found it by asking.
//
//go:embed unicode.txt
var unicodeData string

// class is a set of character properties.
type class uint16

const (
	letter     class = 1 << iota // \p{L}
	number                       // \p{N}
	space                        // \s
	numeric                      // what Digits isolates: \p{N} and a few ideographs
	word                         // \w, what single_word looks for
	joins                        // NFC may move it or join it to what precedes
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
	second    map[rune]bool // characters that some pair of compose ends with
}

// chars returns the tables, parsed when they are first needed.
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

// add gives c one more class.
func (t *tables) add(c rune, k class) {
	blank := t.pages[len(t.pages)-1] // plane 16 holds private characters only
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
// in any (have being true) or none of them (false).
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

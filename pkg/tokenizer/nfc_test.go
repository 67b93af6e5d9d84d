package tokenizer

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func normalizeNFC(s string) string { return nfc{}.apply(piece{s: s}).s }

// known reports whether NFC of s is the same in Unicode 9.0 and in x/text, that is, whether
// no character of s is newer. The standard library has no property Age, so a character counts
// as newer if x/text reorders, decomposes or composes it and the tables do not.
func known(s string) bool {
	t := chars()
	for _, c := range s {
		p := norm.NFD.PropertiesString(string(c))
		if p.CCC() != t.ccc[c] {
			return false
		}
		_, splits := t.decompose[c]
		hangul := c >= hangulS && c < hangulS+hangulLs*hangulVs*hangulTs
		if (p.Decomposition() != nil) != splits {
			return false
		}
		if !hangul && !splits && norm.NFC.PropertiesString(string(c)).BoundaryBefore() != (t.of(c)&joins == 0) {
			return false
		}
	}
	return true
}

// TestNFC compares normalization with x/text where both have the same data.
func TestNFC(t *testing.T) {
	tab := chars()
	later := 0
	var moving []rune // the characters that make NFC difficult
	for c := rune(0); c <= unicode.MaxRune; c++ {
		if !utf8.ValidRune(c) {
			continue
		}
		if !known(string(c)) {
			later++
			continue
		}
		if got, want := normalizeNFC(string(c)), norm.NFC.String(string(c)); got != want {
			t.Errorf("NFC(%U) = %+q, want %+q", c, got, want)
		}
		if tab.of(c)&(joins|decomposes) != 0 && (c < 0x2f800 || c%37 == 0) {
			moving = append(moving, c)
		}
	}
	t.Logf("%d characters count as later than Unicode 9.0", later)
	if later > 400 {
		t.Errorf("%d characters are said to be later than Unicode 9.0", later)
	}
	for pair, want := range tab.compose {
		if got := normalizeNFC(string(pair[:])); got != string(want) {
			t.Errorf("%U does not compose to %U", pair, want)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50000 {
		var b strings.Builder
		for range 1 + rng.IntN(8) {
			switch rng.IntN(5) {
			case 0:
				b.WriteRune(rune('a' + rng.IntN(26)))
			case 1:
				b.WriteRune(rune(0x300 + rng.IntN(0x30)))
			case 2:
				b.WriteRune(rune(0x1100 + rng.IntN(0x100)))
			default:
				b.WriteRune(moving[rng.IntN(len(moving))])
			}
		}
		s := b.String()
		if got, want := normalizeNFC(s), norm.NFC.String(s); got != want {
			t.Fatalf("NFC(%+q) = %+q, want %+q", s, got, want)
		}
	}
}

// TestNFCUnlimited checks the difference that rules x/text out: x/text breaks runs of more than
// 30 marks, the official library does not.
func TestNFCUnlimited(t *testing.T) {
	s := "a" + strings.Repeat("\u0323", 40) + strings.Repeat("\u0307", 40)
	want := "ạ" + strings.Repeat("\u0323", 39) + strings.Repeat("\u0307", 40)
	if got := normalizeNFC("a" + strings.Repeat("\u0307\u0323", 40)); got != want {
		t.Errorf("got %+q, want %+q", got, want)
	}
	if got := normalizeNFC(s); got != want {
		t.Errorf("got %+q, want %+q", got, want)
	}
	// For the library a mark of Unicode 14 is not a mark: nothing is reordered across it.
	if got := normalizeNFC("a\u0898\u0301"); got != "a\u0898\u0301" {
		t.Errorf("U+0898 lets U+0301 pass: %+q", got)
	}
}

// TestNFCAlignment checks that each changed part covers the bytes that it was made from.
func TestNFCAlignment(t *testing.T) {
	s := "xe\u0301y\u212bz\u0344"
	p := nfc{}.apply(piece{s: s, base: 10})
	if p.s != "xéyÅz\u0308\u0301" {
		t.Fatalf("NFC = %+q", p.s)
	}
	want := map[int]int{0: 10, 1: 11, 3: 14, 4: 15, 6: 18, 7: 19, len(p.s): 10 + len(s)}
	for i, off := range want {
		if p.at(i) != off {
			t.Errorf("byte %d comes from %d, want %d", i, p.at(i), off)
		}
	}
}

// TestClasses compares the character tables with package unicode. Their Unicode versions
// differ, but characters of old versions must agree.
func TestClasses(t *testing.T) {
	tab := chars()
	for _, test := range []struct {
		name string
		k    class
		has  func(rune) bool
		slop int // characters assigned between the versions
	}{
		{"letter", letter, unicode.IsLetter, 8000},
		{"number", number, unicode.IsNumber, 150},
		{"numeric", numeric, unicode.IsNumber, 170},
		{"space", space, unicode.IsSpace, 0},
		{"word", word, func(c rune) bool {
			return unicode.IsLetter(c) || unicode.IsMark(c) || unicode.IsDigit(c) || unicode.Is(unicode.Pc, c) ||
				unicode.Is(unicode.Nl, c) || unicode.Is(unicode.Other_Alphabetic, c) || c == 0x200c || c == 0x200d
		}, 8000},
	} {
		differ := 0
		for c := rune(0); c <= unicode.MaxRune; c++ {
			if utf8.ValidRune(c) && (tab.of(c)&test.k != 0) != test.has(c) {
				differ++
				if c < 0x250 || test.slop == 0 {
					t.Errorf("%s: U+%04X differs", test.name, c)
				}
			}
		}
		if differ > test.slop {
			t.Errorf("%s: %d characters differ", test.name, differ)
		}
		t.Logf("%s: %d characters differ from Unicode %s", test.name, differ, unicode.Version)
	}
}

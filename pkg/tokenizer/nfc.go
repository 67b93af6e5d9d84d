package tokenizer

import "slices"

// nfc is Unicode normalization form C as computed by the official library: with the data
// of Unicode 9.0, and without the limit of golang.org/x/text on the number of combining
// marks. The test compares it with x/text where the two definitions agree.
type nfc struct{}

// Hangul syllables are composed by arithmetic (Unicode standard, 3.12).
const (
	hangulS, hangulL, hangulV, hangulT = 0xAC00, 0x1100, 0x1161, 0x11A7
	hangulLs, hangulVs, hangulTs       = 19, 21, 28
)

func (nfc) apply(p piece) piece {
	i := 0
	for i < len(p.s) && p.s[i] < 0xCC { // all of U+0000 to U+02FF is normal and a starter
		i++
	}
	if i == len(p.s) {
		return p
	}
	t := chars()
	var e editor
	changed := false
	done := 0 // everything before done is in e
	for start := 0; start < len(p.s); {
		end, plain := t.segment(p.s, start)
		if plain {
			start = end
			continue
		}
		if out := t.normalize(p.s[start:end]); out != p.s[start:end] {
			if !changed {
				changed, e.late = true, p.late
				e.grow(len(p.s) + 64)
			}
			e.keep(p, done, start)
			e.put(out, p.at(start), p.at(end))
			done = end
		}
		start = end
	}
	if !changed {
		return p
	}
	e.keep(p, done, len(p.s))
	return e.piece(p.at(len(p.s)))
}

// growth is 3: U+0390 and similar characters grow from two bytes to six.
func (nfc) growth() float64 { return 3 }

// segment returns the end of the part of s from i on that can be normalized independently:
// it ends before a character that is neither reordered nor composed with the text before
// it. plain reports that the part is a single normalized character.
func (t *tables) segment(s string, i int) (end int, plain bool) {
	k, n := t.at(s, i)
	plain = k&decomposes == 0
	for i += n; i < len(s); i += n {
		if k, n = t.at(s, i); k&joins == 0 {
			break
		}
		plain = false
	}
	return i, plain
}

// normalize returns NFC of s.
func (t *tables) normalize(s string) string {
	var cs []rune
	for _, c := range s {
		cs = t.appendDecomposed(cs, c)
	}
	// Canonical order: stable sort of the marks between starters by class.
	for i := 0; i < len(cs); {
		j := i
		for j < len(cs) && t.ccc[cs[j]] != 0 {
			j++
		}
		slices.SortStableFunc(cs[i:j], func(a, b rune) int { return int(t.ccc[a]) - int(t.ccc[b]) })
		i = j + 1
	}
	// Composition: a character composes with the last starter if there is no other
	// starter and no mark of the same or a higher class between them.
	out := cs[:0]
	starter, last := -1, 0 // index of the starter in out, class of the last character kept
	for _, c := range cs {
		k := int(t.ccc[c])
		if starter >= 0 && (len(out)-1 == starter || last != 0 && last < k) {
			if joined, ok := t.join(out[starter], c); ok {
				out[starter] = joined
				continue
			}
		}
		if k == 0 {
			starter = len(out)
		}
		last = k
		out = append(out, c)
	}
	return string(out)
}

func (t *tables) appendDecomposed(cs []rune, c rune) []rune {
	if i := c - hangulS; i >= 0 && i < hangulLs*hangulVs*hangulTs {
		cs = append(cs, hangulL+i/(hangulVs*hangulTs), hangulV+i%(hangulVs*hangulTs)/hangulTs)
		if v := i % hangulTs; v != 0 {
			cs = append(cs, hangulT+v)
		}
		return cs
	}
	d, ok := t.decompose[c]
	if !ok {
		return append(cs, c)
	}
	cs = t.appendDecomposed(cs, d[0])
	if d[1] != 0 {
		cs = t.appendDecomposed(cs, d[1])
	}
	return cs
}

// join returns the composition of a and b.
func (t *tables) join(a, b rune) (rune, bool) {
	if l, v := a-hangulL, b-hangulV; l >= 0 && l < hangulLs && v >= 0 && v < hangulVs {
		return hangulS + (l*hangulVs+v)*hangulTs, true
	}
	if i, v := a-hangulS, b-hangulT; i >= 0 && i < hangulLs*hangulVs*hangulTs && i%hangulTs == 0 && v > 0 && v < hangulTs {
		return a + v, true
	}
	c, ok := t.compose[[2]rune{a, b}]
	return c, ok
}

package tokenizer

import (
	"strconv"
	"strings"
)

// A step splits or transforms a piece and emits the parts in order. The receiver drops
// empty parts.
type step func(p piece, yield func(piece))

// pretokenizer is the part of the pipeline that splits a text into words.
type pretokenizer struct {
	steps []step
	names []string // of the steps, as Description has them
	grows bool     // a step may lengthen a text four times, by Metaspace's character
	bytes bool     // words are in ByteLevel's alphabet, one character per byte
}

// add appends a step with its name.
func (t *pretokenizer) add(name string, s step) {
	t.steps, t.names = append(t.steps, s), append(t.names, name)
}

// words splits p into words.
func (t *pretokenizer) words(p piece, yield func(piece)) { runSteps(t.steps, p, yield) }

func runSteps(steps []step, p piece, yield func(piece)) {
	if p.s == "" {
		return
	}
	if len(steps) == 0 {
		yield(p)
		return
	}
	steps[0](p, func(q piece) { runSteps(steps[1:], q, yield) })
}

// A finder returns the next part of s from i on that a pattern matches; ok is
// false if there is none.
type finder func(s string, i int) (start, end int, ok bool)

// behaviour determines the treatment of the parts that a pattern matches.
type behaviour uint8

const (
	isolated           behaviour = iota // a separate part
	removed                             // dropped
	mergedWithPrevious                  // joined to the part before
	mergedWithNext                      // joined to the part after
	contiguous                          // adjacent matches become one part
)

var behaviours = map[string]behaviour{
	"Isolated": isolated, "Removed": removed, "MergedWithPrevious": mergedWithPrevious,
	"MergedWithNext": mergedWithNext, "Contiguous": contiguous,
}

// split splits at the matches of find; with invert, the parts between them are the
// matches.
func split(find finder, how behaviour, invert bool) step {
	return func(p piece, yield func(piece)) {
		// A part is held back as long as the next one may be joined to it.
		start, end, held, match := 0, 0, false, false
		flush := func() {
			if held {
				yield(p.slice(start, end))
				held = false
			}
		}
		part := func(i, j int, isMatch bool) {
			if i == j {
				return
			}
			join := false
			switch how {
			case removed:
				if isMatch {
					return
				}
			case contiguous:
				join = held && isMatch == match
			case mergedWithPrevious: // a match after a match is a separate part
				join = held && isMatch && !match
			case mergedWithNext: // so is a match before a match
				join = held && match && !isMatch
			}
			if !join {
				flush()
				start = i
			}
			end, held, match = j, true, isMatch
		}
		done := 0
		for i := 0; i < len(p.s); {
			from, to, ok := find(p.s, i)
			if !ok {
				break
			}
			part(done, from, invert)
			part(from, to, !invert)
			done, i = to, to
		}
		part(done, len(p.s), invert)
		flush()
	}
}

// cut splits into the matches of a scanner, which cover the whole text.
func cut(scan scanner) step {
	return func(p piece, yield func(piece)) {
		t := chars()
		for i := 0; i < len(p.s); {
			j := scan(t, p.s, i)
			yield(p.slice(i, j))
			i = j
		}
	}
}

func findScanner(scan scanner) finder {
	return func(s string, i int) (int, int, bool) { return i, scan(chars(), s, i), true }
}

func findString(pattern string) finder {
	return func(s string, i int) (int, int, bool) {
		j := next(s, i, pattern)
		return j, j + len(pattern), j >= 0
	}
}

// findNumeric finds single digits.
func findNumeric(s string, i int) (int, int, bool) {
	t := chars()
	i = t.run(s, i, numeric, false)
	if i == len(s) {
		return 0, 0, false
	}
	_, n := t.at(s, i)
	return i, i + n, true
}

// metaspace replaces spaces by a visible character, adds one before the text according to
// scheme ("always", "first" or "never"), and optionally splits before each.
func metaspace(replacement, scheme string, cuts bool) step {
	spaces := newReplace(" ", replacement)
	before := split(findString(replacement), mergedWithNext, false)
	return func(p piece, yield func(piece)) {
		p = spaces.apply(p)
		if scheme != "never" && !strings.HasPrefix(p.s, replacement) &&
			(scheme == "always" || p.at(0) == 0 && !p.late) {
			p = p.prepend(replacement)
		}
		if cuts {
			before(p, yield)
		} else {
			yield(p)
		}
	}
}

// leadingSpace adds a space before a piece that does not begin with one.
func leadingSpace(p piece, yield func(piece)) {
	if p.s[0] != ' ' {
		p = p.prepend(" ")
	}
	yield(p)
}

// parsePretokenizer adds the steps of the pre-tokenizer at o to t.
func (t *pretokenizer) parse(o *object, depth int) error {
	kind, err := o.str("type")
	if err != nil {
		return err
	}
	if t.bytes && kind != "Sequence" {
		return o.errorf("is not supported: pre-tokenizer %q after ByteLevel", kind)
	}
	switch kind {
	case "Sequence":
		if depth == maxNesting {
			return o.errorf("is nested more than %d levels deep", maxNesting)
		}
		list, err := o.objects("pretokenizers", maxSteps)
		if err != nil {
			return err
		}
		for _, s := range list {
			if err := t.parse(s, depth+1); err != nil {
				return err
			}
		}
		return nil
	case "ByteLevel":
		return t.parseByteLevel(o)
	case "Digits":
		single, err := o.boolean("individual_digits")
		if err != nil {
			return err
		}
		name, how := "Digits", contiguous
		if single {
			name, how = "Digits individual", isolated
		}
		t.add(name, split(findNumeric, how, false))
		return nil
	case "Split":
		return t.parseSplit(o)
	case "Metaspace":
		return t.parseMetaspace(o)
	}
	return o.errorf("is not supported: pre-tokenizer %q", kind)
}

func (t *pretokenizer) parseByteLevel(o *object) error {
	prefix, err := o.boolean("add_prefix_space")
	if err != nil {
		return err
	}
	if _, err := o.boolean("trim_offsets"); err != nil { // offsets only
		return err
	}
	useRegex, err := o.optBool("use_regex", true)
	if err != nil {
		return err
	}
	if prefix {
		t.add("PrefixSpace", leadingSpace)
	}
	if useRegex {
		t.add(splitName(expressionNames[gpt2Pattern], "Isolated", false), cut(scanGPT2))
	}
	t.bytes, t.names = true, append(t.names, "ByteLevel")
	return nil
}

func (t *pretokenizer) parseSplit(o *object) error {
	pattern, isRegex, err := o.literal("pattern")
	if err != nil {
		return err
	}
	name, err := o.str("behavior")
	if err != nil {
		return err
	}
	how, ok := behaviours[name]
	if !ok {
		return o.errorf("is not supported: Split behaviour %q", name)
	}
	invert, err := o.boolean("invert")
	if err != nil {
		return err
	}
	if !isRegex {
		if pattern == "" {
			return o.errorf("splits at an empty string")
		}
		t.add(splitName(strconv.Quote(pattern), name, invert), split(findString(pattern), how, invert))
		return nil
	}
	scan, ok := scanners[pattern]
	if !ok {
		return o.errorf("is not supported: Split by the regular expression %q", pattern)
	}
	step := split(findScanner(scan), how, invert)
	if how == isolated || how == removed && invert { // the matches cover the text
		step, name, invert = cut(scan), "Isolated", false
	}
	t.add(splitName(expressionNames[pattern], name, invert), step)
	return nil
}

// splitName is the name of a Split at an expression or a quoted string.
func splitName(at, behaviour string, invert bool) string {
	name := "Split " + at + " " + behaviour
	if invert {
		name += " inverted"
	}
	return name
}

func (t *pretokenizer) parseMetaspace(o *object) error {
	c, scheme, err := metaspaceOptions(o)
	if err != nil {
		return err
	}
	cuts, err := o.optBool("split", true)
	if err != nil {
		return err
	}
	if t.grows {
		return o.errorf("is not supported: a second Metaspace")
	}
	t.grows = true
	name := "Metaspace " + strconv.Quote(string(c)) + " " + scheme
	if cuts {
		name += " split"
	}
	t.add(name, metaspace(string(c), scheme, cuts))
	return nil
}

// metaspaceOptions reads the options of Metaspace as pre-tokenizer and as decoder.
func metaspaceOptions(o *object) (replacement rune, scheme string, err error) {
	if replacement, err = o.char("replacement"); err != nil {
		return 0, "", err
	}
	scheme = "always"
	if o.has("prepend_scheme") {
		if scheme, err = o.str("prepend_scheme"); err != nil {
			return 0, "", err
		}
		if scheme != "always" && scheme != "first" && scheme != "never" {
			return 0, "", o.errorf("is not supported: prepend_scheme %q", scheme)
		}
	}
	// Older files have add_prefix_space instead of prepend_scheme.
	add, err := o.optBool("add_prefix_space", true)
	if err != nil {
		return 0, "", err
	}
	if !add {
		if o.has("prepend_scheme") && scheme != "never" {
			return 0, "", o.errorf("is contradictory: add_prefix_space is false, prepend_scheme is %q", scheme)
		}
		scheme = "never"
	}
	return replacement, scheme, nil
}

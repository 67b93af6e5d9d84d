package tokenizer

import (
	"strings"
)

// A step cuts a piece, or changes it, and passes the parts on in order. Parts that
// are empty are dropped by whoever receives them.
type step func(p piece, yield func(piece))

// pretokenizer is the part of the pipeline that cuts a text into words.
type pretokenizer struct {
	steps []step
	grows bool // a step may make a text four times as long: Metaspace's character
	bytes bool // words are written in ByteLevel's alphabet, one character a byte
}

// words cuts p into words.
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
// false when there is none.
type finder func(s string, i int) (start, end int, ok bool)

// behaviour says what becomes of the parts that a pattern matches.
type behaviour uint8

const (
	isolated           behaviour = iota // a part of its own
	removed                             // dropped
	mergedWithPrevious                  // joins what precedes
	mergedWithNext                      // joins what follows
	contiguous                          // neighbours become one part
)

var behaviours = map[string]behaviour{
	"Isolated": isolated, "Removed": removed, "MergedWithPrevious": mergedWithPrevious,
	"MergedWithNext": mergedWithNext, "Contiguous": contiguous,
}

// split cuts at the matches of find; invert takes what lies between them for the
// matches.
func split(find finder, how behaviour, invert bool) step {
	return func(p piece, yield func(piece)) {
		// A part is held back while the next one may still join it.
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
			case mergedWithPrevious: // a match that follows a match stands alone
				join = held && isMatch && !match
			case mergedWithNext: // so does a match that precedes one
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

// cut cuts at every match of a scanner, which leaves nothing between the matches.
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

// metaspace replaces spaces by a visible character, puts one before the text as
// scheme says ("always", "first" or "never") and cuts before each, if it cuts.
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

// leadingSpace puts a space before a piece that has none.
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
			return o.errorf("nests more than %d deep", maxNesting)
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
		how := contiguous
		if single {
			how = isolated
		}
		t.steps = append(t.steps, split(findNumeric, how, false))
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
		t.steps = append(t.steps, leadingSpace)
	}
	if useRegex {
		t.steps = append(t.steps, cut(scanGPT2))
	}
	t.bytes = true
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
		t.steps = append(t.steps, split(findString(pattern), how, invert))
		return nil
	}
	scan, ok := scanners[pattern]
	if !ok {
		return o.errorf("is not supported: Split by the expression %q", pattern)
	}
	if how == isolated {
		t.steps = append(t.steps, cut(scan))
	} else {
		t.steps = append(t.steps, split(findScanner(scan), how, invert))
	}
	return nil
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
	t.steps = append(t.steps, metaspace(string(c), scheme, cuts))
	return nil
}

// metaspaceOptions reads what Metaspace needs as pre-tokenizer and as decoder.
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
	// Files from before prepend_scheme say add_prefix_space.
	add, err := o.optBool("add_prefix_space", true)
	if err != nil {
		return 0, "", err
	}
	if !add {
		if o.has("prepend_scheme") && scheme != "never" {
			return 0, "", o.errorf("contradicts itself: add_prefix_space is false, prepend_scheme %q", scheme)
		}
		scheme = "never"
	}
	return replacement, scheme, nil
}

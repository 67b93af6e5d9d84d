package tokenizer

import "strings"

// A normalizer transforms the text before pre-tokenization.
type normalizer interface {
	apply(p piece) piece
	// growth returns the largest factor by which the text may grow.
	growth() float64
	// name describes the step as Description does.
	name() string
}

// maxPrepend is the longest string that Prepend may add to each part of a text, in bytes.
const maxPrepend = 1 << 10

// prepend adds a string before a text that is not empty.
type prepend string

func (n prepend) apply(p piece) piece {
	if p.s == "" || n == "" {
		return p
	}
	return p.prepend(string(n))
}

func (prepend) growth() float64 { return 1 } // maxPrepend bytes more

// replace replaces pattern by content.
type replace struct {
	pattern, content string
	several          bool // pattern has more than one character
}

func newReplace(pattern, content string) replace {
	return replace{pattern, content, len([]rune(pattern)) > 1}
}

func (n replace) apply(p piece) piece {
	i := strings.Index(p.s, n.pattern)
	if i < 0 {
		return p
	}
	// In the library the offset of a replacement is that of the last replaced character.
	e := editor{late: p.late || i == 0 && n.several}
	e.grow(len(p.s) + strings.Count(p.s, n.pattern)*max(0, len(n.content)-len(n.pattern)))
	done := 0
	for ; i >= 0; i = next(p.s, done, n.pattern) {
		e.keep(p, done, i)
		done = i + len(n.pattern)
		e.put(n.content, p.at(i), p.at(done))
	}
	e.keep(p, done, len(p.s))
	return e.piece(p.at(len(p.s)))
}

func (n replace) growth() float64 {
	return max(1, float64(len(n.content))/float64(len(n.pattern)))
}

// next returns the index of pattern in s from i on, -1 if there is none.
func next(s string, i int, pattern string) int {
	j := strings.Index(s[i:], pattern)
	if j < 0 {
		return -1
	}
	return i + j
}

// strip removes white space at the ends.
type strip struct{ left, right bool }

func (n strip) apply(p piece) piece {
	t := chars()
	i, j := 0, len(p.s)
	if n.left {
		i = t.run(p.s, 0, space, true)
	}
	if n.right {
		j = t.trimRight(p.s, i)
	}
	return p.slice(i, j)
}

func (strip) growth() float64 { return 1 }

// parseNormalizer adds the steps of the normalizer at o to list.
func parseNormalizer(o *object, list []normalizer, depth int) ([]normalizer, error) {
	kind, err := o.str("type")
	if err != nil {
		return nil, err
	}
	switch kind {
	case "Sequence":
		if depth == maxNesting {
			return nil, o.errorf("is nested more than %d levels deep", maxNesting)
		}
		steps, err := o.objects("normalizers", maxSteps)
		if err != nil {
			return nil, err
		}
		for _, s := range steps {
			if list, err = parseNormalizer(s, list, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case "Prepend":
		s, err := o.str("prepend")
		if len(s) > maxPrepend {
			return nil, o.errorf("is not supported: it prepends %d bytes", len(s))
		}
		return append(list, prepend(s)), err
	case "Replace":
		pattern, isRegex, err := o.literal("pattern")
		if err != nil {
			return nil, err
		}
		if isRegex {
			return nil, o.errorf("is not supported: Replace by the regular expression %q", pattern)
		}
		if pattern == "" {
			return nil, o.errorf("replaces an empty string")
		}
		content, err := o.str("content")
		return append(list, newReplace(pattern, content)), err
	case "Strip":
		left, err := o.boolean("strip_left")
		if err != nil {
			return nil, err
		}
		right, err := o.boolean("strip_right")
		return append(list, strip{left, right}), err
	case "NFC":
		return append(list, nfc{}), nil
	}
	return nil, o.errorf("is not supported: normalizer %q", kind)
}

package tokenizer

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// A decoder transforms the tokens of one text, one at a time. push adds a token and flush
// ends the text; both pass output that can no longer change to emit.
type decoder interface {
	push(token string, emit func(string))
	flush(emit func(string))
}

// decoders makes the chain of decoders of one text.
type decoders []func() decoder

// spaced joins tokens with spaces, as the library does without a decoder.
type spaced struct{ more bool }

func (d *spaced) push(token string, emit func(string)) {
	if d.more {
		token = " " + token
	}
	d.more = true
	emit(token)
}

func (*spaced) flush(func(string)) {}

// replacing replaces a string within each token.
type replacing struct{ pattern, content string }

func (d replacing) push(token string, emit func(string)) {
	emit(strings.ReplaceAll(token, d.pattern, d.content))
}

func (replacing) flush(func(string)) {}

// fusing joins all tokens into one. It emits the parts of that token, and the decoders
// after it are constructed for such parts.
type fusing struct{}

func (fusing) push(token string, emit func(string)) { emit(token) }
func (fusing) flush(func(string))                   {}

// byteFallback decodes tokens like <0xE2> into bytes. A run of them that is not valid
// UTF-8 becomes one U+FFFD per byte.
type byteFallback struct{ run []byte }

func (d *byteFallback) push(token string, emit func(string)) {
	if b, ok := byteToken(token); ok {
		d.run = append(d.run, b)
		return
	}
	d.flush(emit)
	emit(token)
}

func (d *byteFallback) flush(emit func(string)) {
	switch {
	case len(d.run) == 0:
	case utf8.Valid(d.run):
		emit(string(d.run))
	default:
		for range d.run {
			emit("\uFFFD")
		}
	}
	d.run = d.run[:0]
}

// byteToken returns the byte of a token like <0xE2>.
func byteToken(s string) (byte, bool) {
	if len(s) != 6 || !strings.HasPrefix(s, "<0x") || s[5] != '>' {
		return 0, false
	}
	digits := s[3:5]
	if digits[0] == '+' { // Rust's integer parser accepts a sign
		digits = digits[1:]
	}
	b, err := strconv.ParseUint(digits, 16, 8)
	return byte(b), err == nil
}

// byteLevelDecoder maps ByteLevel's characters to bytes and decodes these as UTF-8;
// invalid parts become U+FFFD.
type byteLevelDecoder struct{ tail []byte }

func (d *byteLevelDecoder) push(token string, emit func(string)) {
	d.tail = append(d.tail, fromByteLevel(token)...)
	var text []byte
	i := 0
	for i < len(d.tail) {
		n, valid := nextChar(d.tail, i)
		if valid {
			text = append(text, d.tail[i:i+n]...)
		} else if i+n == len(d.tail) && !utf8.FullRune(d.tail[i:]) {
			break // the next token may complete it
		} else {
			text = append(text, "\uFFFD"...)
		}
		i += n
	}
	d.tail = d.tail[:copy(d.tail, d.tail[i:])]
	if len(text) > 0 {
		emit(string(text))
	}
}

func (d *byteLevelDecoder) flush(emit func(string)) {
	if len(d.tail) > 0 {
		emit("\uFFFD")
	}
	d.tail = d.tail[:0]
}

// stripping removes up to start times content at the start of each token and up to
// stop times at its end.
type stripping struct {
	content     string
	start, stop int
}

func (d stripping) push(token string, emit func(string)) {
	for range d.start {
		token = strings.TrimPrefix(token, d.content)
	}
	for i := 0; i < d.stop && strings.HasSuffix(token, d.content); i++ {
		token = token[:len(token)-len(d.content)]
	}
	emit(token)
}

func (stripping) flush(func(string)) {}

// strippingFused does the same for a text that was fused into one token.
type strippingFused struct {
	stripping
	held int // occurrences of content at the end, up to stop, not yet emitted
}

func (d *strippingFused) push(token string, emit func(string)) {
	for ; d.start > 0 && token != ""; d.start-- {
		if !strings.HasPrefix(token, d.content) {
			d.start = 0
			break
		}
		token = token[len(d.content):]
	}
	if token == "" {
		return
	}
	if d.stop > 0 {
		token = strings.Repeat(d.content, d.held) + token
		for d.held = 0; d.held < d.stop && strings.HasSuffix(token, d.content); d.held++ {
			token = token[:len(token)-len(d.content)]
		}
	}
	if token != "" {
		emit(token)
	}
}

// metaspaceDecoder replaces the visible character by a space, and drops it in the first
// token if the pre-tokenizer adds one there.
type metaspaceDecoder struct {
	replacement string
	drops       bool // in the first token
	fused       bool // all tokens are parts of the first
}

func (d *metaspaceDecoder) push(token string, emit func(string)) {
	space := " "
	if d.drops {
		space = ""
	}
	d.drops = d.drops && d.fused
	emit(strings.ReplaceAll(token, d.replacement, space))
}

func (*metaspaceDecoder) flush(func(string)) {}

// parse adds the decoder at o. fused reports whether the tokens are fused before it.
func (l *decoders) parse(o *object, fused *bool, depth int) error {
	kind, err := o.str("type")
	if err != nil {
		return err
	}
	add := func(f func() decoder) { *l = append(*l, f) }
	switch kind {
	case "Sequence":
		if depth == maxNesting {
			return o.errorf("is nested more than %d levels deep", maxNesting)
		}
		list, err := o.objects("decoders", maxSteps)
		if err != nil {
			return err
		}
		for _, d := range list {
			if err := l.parse(d, fused, depth+1); err != nil {
				return err
			}
		}
	case "Fuse":
		add(func() decoder { return fusing{} })
		*fused = true
	case "ByteFallback":
		if *fused {
			return o.errorf("is not supported: ByteFallback after Fuse")
		}
		add(func() decoder { return &byteFallback{} })
	case "ByteLevel":
		if *fused {
			return o.errorf("is not supported: ByteLevel after Fuse")
		}
		add(func() decoder { return &byteLevelDecoder{} })
		*fused = true
	case "Metaspace":
		c, scheme, err := metaspaceOptions(o)
		if err != nil {
			return err
		}
		one := *fused
		add(func() decoder {
			return &metaspaceDecoder{replacement: string(c), drops: scheme != "never", fused: one}
		})
	case "Replace":
		return l.parseReplace(o, *fused)
	case "Strip":
		return l.parseStrip(o, *fused)
	default:
		return o.errorf("is not supported: decoder %q", kind)
	}
	return nil
}

func (l *decoders) parseReplace(o *object, fused bool) error {
	pattern, isRegex, err := o.literal("pattern")
	if err != nil {
		return err
	}
	if isRegex {
		return o.errorf("is not supported: Replace by the regular expression %q", pattern)
	}
	if pattern == "" {
		return o.errorf("replaces an empty string")
	}
	if fused && utf8.RuneCountInString(pattern) > 1 {
		return o.errorf("is not supported: Replace of more than one character after Fuse")
	}
	content, err := o.str("content")
	*l = append(*l, func() decoder { return replacing{pattern, content} })
	return err
}

func (l *decoders) parseStrip(o *object, fused bool) error {
	c, err := o.char("content")
	if err != nil {
		return err
	}
	s := stripping{content: string(c)}
	for key, v := range map[string]*int{"start": &s.start, "stop": &s.stop} {
		var n uint16
		if err := o.get(key, &n); err != nil {
			return err
		}
		*v = int(n)
	}
	*l = append(*l, func() decoder {
		if fused {
			return &strippingFused{stripping: s}
		}
		return s
	})
	return nil
}

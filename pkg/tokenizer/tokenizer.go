// Package tokenizer reads the tokenizer.json of a Hugging Face checkpoint, and encodes
// text into token ids and decodes them exactly as the official tokenizers library
// (0.23) does. A file for which this cannot be guaranteed is refused.
//
// # Supported parts
//
//   - model BPE, with byte_fallback, fuse_unk and ignore_merges, merges as strings
//     or as pairs; without dropout, continuing_subword_prefix, end_of_word_suffix.
//   - normalizers Prepend, Replace of a string, Strip, NFC, and sequences of them.
//   - pre-tokenizers ByteLevel, Digits, Metaspace, Split by a string or by one of
//     the expressions of GPT-2, Llama 3 (cl100k), Qwen 2, GPT-4o (o200k) and
//     Mistral's Tekken, and sequences.
//   - post-processors ByteLevel and TemplateProcessing, and sequences.
//   - decoders ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, sequences.
//   - added tokens with all their flags.
//
// Everything else (WordPiece, Unigram, other expressions, ...) is refused with an
// error that names it. "truncation" and "padding" are ignored, because transformers
// resets both before it encodes. The library ignores the id that a file assigns to
// an added token and numbers added tokens after the vocabulary; a file in which the
// two differ is refused.
//
// Results are those of the pipeline in the file. For some tokenizer_class names,
// transformers 5 replaces the pipeline by its own (LlamaTokenizer: no unk, another
// rule for the first space); PreTrainedTokenizerFast(tokenizer_file=...) uses the file.
//
// scripts/check_tokenizer.py compares any file with the library.
//
// # Text
//
// Bytes that are not UTF-8 are read as U+FFFD, one for each maximal invalid part, like
// errors="replace" in Python. A character that is not in the vocabulary becomes its
// byte tokens if the model has them, otherwise unk, otherwise nothing.
package tokenizer

import (
	"strings"

	"afmq/internal/infile"
)

// maxGrowth is the largest factor by which a pipeline may lengthen a text; real ones
// have a small factor.
const maxGrowth = 256

// maxSteps is the largest number of normalizers, and of parts of any other pipeline; real files
// have up to five.
const maxSteps = 64

// maxAdded is the largest number of added tokens; real files have up to a few thousand.
const maxAdded = 1 << 20

// Tokenizer is the pipeline of a tokenizer.json. It is immutable and safe for
// concurrent use.
type Tokenizer struct {
	model      *model
	coders     *coders
	added      addedVocabulary
	normalizer []normalizer
	pre        pretokenizer
	surround   surround
	decoders   decoders
	maxID      int32
	maxText    int // so that offsets into the normalized text fit 31 bits
}

// Encoding is the result of encoding one text.
type Encoding struct {
	IDs []int32 // token ids, in order
	// Bytes[i] is the number of bytes of the input text that token i represents:
	// 0 for tokens that the post-processor adds, and for a ▁ or space that the
	// pipeline adds. The sum is the length of the text, unless the pipeline drops
	// characters.
	Bytes []int32
}

// maxFile is the largest size of a tokenizer.json; large ones have about 30 MB.
const maxFile = 512 << 20

// Load reads the tokenizer.json at path. Errors are those of [Parse] and of reading the file.
func Load(path string) (*Tokenizer, error) {
	data, err := infile.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads a tokenizer.json from memory; errors name the file name. Every error is
// of kind fault.Input and names the part of the file that is invalid or not supported.
func Parse(name string, data []byte) (*Tokenizer, error) {
	if err := checkText(name, data); err != nil {
		return nil, err
	}
	o, err := newObject(name, "", data)
	if err != nil {
		return nil, err
	}
	if v, err := o.optStr("version"); err != nil {
		return nil, err
	} else if v != "" && v != "1.0" {
		return nil, o.errorf("has the unknown version %q", v)
	}
	t := &Tokenizer{}
	if err := t.parse(o); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tokenizer) parse(o *object) error {
	var template, fused bool
	parts := []struct {
		key   string
		parse func(*object) error
	}{
		{"normalizer", func(o *object) (err error) { t.normalizer, err = parseNormalizer(o, nil, 0); return err }},
		{"pre_tokenizer", func(o *object) error { return t.pre.parse(o, 0) }},
		{"post_processor", func(o *object) error { return t.surround.parse(o, &template, 0) }},
		{"decoder", func(o *object) error { return t.decoders.parse(o, &fused, 0) }},
	}
	for _, part := range parts {
		if !o.has(part.key) {
			continue
		}
		p, err := o.object(part.key)
		if err != nil {
			return err
		}
		if err := part.parse(p); err != nil {
			return err
		}
	}
	growth := 1.0
	for _, n := range t.normalizer {
		growth *= n.growth()
	}
	if len(t.normalizer) > maxSteps {
		return o.errorf("normalizer is not supported: it has %d steps", len(t.normalizer))
	}
	if growth > maxGrowth {
		return o.errorf("normalizer is not supported: it may lengthen a text %.0f times", growth)
	}
	if t.pre.grows {
		growth *= 4
	}
	// Each Prepend may add a string as long as a short text.
	t.maxText = int((1<<31-1)/growth) - maxPrepend*len(t.normalizer)
	if !o.has("decoder") {
		t.decoders = decoders{func() decoder { return &spaced{} }}
	}
	m, err := o.object("model")
	if err != nil {
		return err
	}
	if t.model, err = parseModel(m, t.pre.bytes); err != nil {
		return err
	}
	t.coders = newCoders(t.model, t.pre.bytes)
	if err := t.added.parse(o, t.model, t.normalizer); err != nil {
		return err
	}
	t.maxID = -1
	for id := range t.model.tokens {
		t.maxID = max(t.maxID, id)
	}
	for id := range t.added.byID {
		t.maxID = max(t.maxID, id)
	}
	for _, ids := range [][]int32{t.surround.before, t.surround.after} {
		for _, id := range ids {
			t.maxID = max(t.maxID, id)
		}
	}
	return nil
}

// MaxText returns the size in bytes of the longest text that Encode accepts. The
// normalized text must fit 2 GiB; for typical files the limit is about 512 MiB.
func (t *Tokenizer) MaxText() int { return t.maxText }

// Encode encodes text. With addSpecial it adds the special tokens of the post-processor
// for a single sequence, such as BOS. It panics if the text is longer than
// [Tokenizer.MaxText].
func (t *Tokenizer) Encode(text string, addSpecial bool) Encoding {
	whole := newPiece(text, t.maxText)
	var e Encoding
	e.IDs = make([]int32, 0, len(text)/4+8)
	e.Bytes = make([]int32, 0, len(text)/4+8)
	add := func(id int32, n int) {
		e.IDs = append(e.IDs, id)
		e.Bytes = append(e.Bytes, int32(n))
	}
	if addSpecial {
		for _, id := range t.surround.before {
			add(id, 0)
		}
	}
	c := t.coders.get()
	defer t.coders.put(c)
	word := func(p piece) {
		c.encode(p.s, func(k mark) {
			n := k.n
			if p.off != nil {
				n = p.off[k.start+k.n] - p.off[k.start]
			}
			e.IDs = append(e.IDs, k.id)
			e.Bytes = append(e.Bytes, n)
		})
	}
	t.added.raw.split(whole, func(p piece, a *addedToken) {
		if a != nil {
			add(a.id, p.at(len(p.s))-p.at(0))
			return
		}
		for _, n := range t.normalizer {
			p = n.apply(p)
		}
		t.added.norm.split(p, func(p piece, a *addedToken) {
			if a != nil {
				add(a.id, p.at(len(p.s))-p.at(0))
				return
			}
			t.pre.words(p, word)
		})
	})
	if addSpecial {
		for _, id := range t.surround.after {
			add(id, 0)
		}
	}
	return e
}

// Decode decodes ids into text. With skipSpecial it omits special tokens, by content, as
// the library does. Unknown ids are omitted.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	var b strings.Builder
	s := t.Stream(skipSpecial)
	for _, id := range ids {
		b.WriteString(s.Next(id))
	}
	b.WriteString(s.Flush())
	return b.String()
}

// decoded returns the form of a token that is passed to the decoders.
func (t *Tokenizer) decoded(id int32) (string, bool) {
	if a, ok := t.added.byID[id]; ok {
		return a.decoded, true
	}
	s, ok := t.model.tokens[id]
	return s, ok
}

// isSpecial reports whether s is the content of a special token.
func (t *Tokenizer) isSpecial(s string) bool {
	a, ok := t.added.byContent[s]
	return ok && a.special
}

// MaxID returns the largest token id in the file, -1 if there are no tokens. Encode never
// returns a larger one.
func (t *Tokenizer) MaxID() int32 { return t.maxID }

// TokenID returns the id of the token whose form in the file is s, such as "Ġthe".
func (t *Tokenizer) TokenID(s string) (int32, bool) {
	if a, ok := t.added.byContent[s]; ok {
		return a.id, true
	}
	id, ok := t.model.ids[s]
	return id, ok
}

// Token returns the form of the token in the file.
func (t *Tokenizer) Token(id int32) (string, bool) {
	if a, ok := t.added.byID[id]; ok {
		return a.content, true
	}
	s, ok := t.model.tokens[id]
	return s, ok
}

// BOS returns the first token that the post-processor adds before a single sequence; ok is
// false if it adds none.
func (t *Tokenizer) BOS() (id int32, ok bool) {
	if len(t.surround.before) == 0 {
		return 0, false
	}
	return t.surround.before[0], true
}

package tokenizer

import (
	"cmp"
	"slices"
	"strconv"
)

// Description is what another implementation of a tokenizer needs beside its tokens, which
// [Tokenizer.Token] returns.
type Description struct {
	// Normalizer has the steps in order: "NFC", "Prepend \"▁\"", "Replace \" \" \"▁\"", "Strip
	// left right".
	Normalizer []string
	// PreTokenizer has the steps in order:
	//
	//	PrefixSpace             a space before a text that does not begin with one
	//	Split NAME BEHAVIOUR    at an expression: gpt-2, llama-3, qwen2, gpt-4o or tekken; or at a
	//	                        string in quotes. BEHAVIOUR is that of the file, as "Isolated".
	//	                        "inverted" may follow.
	//	Digits                  at runs of digits; "Digits individual" at each
	//	Metaspace "C" SCHEME    "split" may follow
	//	ByteLevel               the bytes in ByteLevel's alphabet; always last
	//
	// ByteLevel with use_regex is "Split gpt-2 Isolated" and "ByteLevel".
	PreTokenizer []string

	Merges        [][2]int32   // pairs of token ids, the first merged first
	Added         []AddedToken // by id
	Before, After []int32      // ids that the post-processor adds to a single text

	Unknown      int32 // id of the token of characters that have none; -1 if they are dropped
	ByteFallback bool  // such characters become tokens like <0xE2>, if there are all 256
	IgnoreMerges bool  // a word that is a token is not divided
	ByteTokens   bool  // the vocabulary has a token for each byte: <0x00> to <0xFF>, or in ByteLevel's alphabet
}

// AddedToken is a token that is matched in the text before the rest of the pipeline.
type AddedToken struct {
	ID      int32
	Content string
	// Matched is the text that is matched: Content, or Content normalized, which is then matched
	// in the normalized text.
	Matched string
	Special bool // omitted by Decode with skipSpecial
	// SingleWord is set if the token is matched only between characters that are not of a word.
	// LStrip and RStrip are set if white space before or after belongs to the match.
	SingleWord, LStrip, RStrip bool
}

// Describe returns the description of a tokenizer.
func (t *Tokenizer) Describe() Description {
	d := Description{
		PreTokenizer: slices.Clone(t.pre.names), Merges: t.model.mergeList(),
		Before: slices.Clone(t.surround.before), After: slices.Clone(t.surround.after),
		Unknown: t.model.unk, ByteFallback: t.model.byteFallback, IgnoreMerges: t.model.ignoreMerges,
	}
	table := &t.model.fallback
	if t.pre.bytes {
		table = &t.model.alphabet
	}
	d.ByteTokens = !slices.Contains(table[:], -1)
	for _, n := range t.normalizer {
		d.Normalizer = append(d.Normalizer, n.name())
	}
	for _, a := range t.added.byID {
		d.Added = append(d.Added, AddedToken{a.id, a.content, a.decoded, a.special, a.singleWord, a.lstrip, a.rstrip})
	}
	slices.SortFunc(d.Added, func(a, b AddedToken) int { return cmp.Compare(a.ID, b.ID) })
	return d
}

func (nfc) name() string       { return "NFC" }
func (n prepend) name() string { return "Prepend " + strconv.Quote(string(n)) }
func (n replace) name() string {
	return "Replace " + strconv.Quote(n.pattern) + " " + strconv.Quote(n.content)
}

func (n strip) name() string {
	name := "Strip"
	if n.left {
		name += " left"
	}
	if n.right {
		name += " right"
	}
	return name
}

// mergeList returns the merges by rank.
func (m *model) mergeList() [][2]int32 {
	type ranked struct {
		pair [2]int32
		rank int32
	}
	var list []ranked
	for i, key := range m.merges.keys {
		if key != 0 {
			list = append(list, ranked{[2]int32{int32((key - 1) >> 32), int32(uint32(key - 1))}, m.merges.values[i].rank})
		}
	}
	slices.SortFunc(list, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	pairs := make([][2]int32, len(list))
	for i, x := range list {
		pairs[i] = x.pair
	}
	return pairs
}

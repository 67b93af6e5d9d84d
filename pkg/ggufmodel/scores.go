package ggufmodel

import (
	"cmp"
	"math"
	"slices"
	"unicode/utf8"

	"afmq/pkg/gguf"
)

// sentencePiece describes BPE on characters with a visible space, whose merges follow from scores.
func (v *vocabulary) sentencePiece(file part) error {
	v.readEnds(true, 1, 2)
	prefix := v.keys.bool("add_space_prefix", true)
	unknown, ok := v.keys.id("unknown_token_id", len(v.tokens))
	if i := slices.Index(v.types[:len(v.tokens)], UnknownToken); i >= 0 && !ok {
		unknown, ok = int32(i), true
	}
	if v.keys.err != nil {
		return v.keys.err
	}
	scores, err := v.scores()
	if err != nil {
		return err
	}
	pairs, err := v.mergesOf(scores)
	if err != nil {
		return err
	}
	steps := []part{{"type": "Replace", "pattern": part{"String": " "}, "content": Space}}
	decoders := []part{{"type": "Replace", "pattern": part{"String": Space}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}}
	if prefix {
		steps = append([]part{{"type": "Prepend", "prepend": Space}}, steps...)
		decoders = append(decoders, part{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	file["normalizer"] = part{"type": "Sequence", "normalizers": steps}
	file["decoder"] = part{"type": "Sequence", "decoders": decoders}
	m := part{"type": "BPE", "byte_fallback": true, "fuse_unk": true, "vocab": v.vocab(), "merges": pairs}
	if ok && !v.left[unknown] {
		m["unk_token"] = v.tokens[unknown]
	}
	file["model"] = m
	return nil
}

// scores reads the score of each token.
func (v *vocabulary) scores() ([]float32, error) {
	scores, err := gguf.Get[[]float32](v.keys.file, "tokenizer.ggml.scores")
	if err != nil {
		return nil, err
	}
	if len(scores) < len(v.tokens) {
		v.keys.fail("scores", "has %d elements; there are %d tokens", len(scores), len(v.tokens))
		return nil, v.keys.err
	}
	for i := range v.tokens {
		if math.IsNaN(float64(scores[i])) {
			v.keys.fail("scores", "has NaN at index %d", i)
			return nil, v.keys.err
		}
	}
	return scores, nil
}

// mergeFactor bounds the bytes of all merges by those of all tokens. In real vocabularies a token
// has two or three ways to be divided.
const mergeFactor = 64

// maxPiece bounds the bytes of a token that merges make, because the time to find them grows with
// the square of its length. Real ones have up to a hundred.
const maxPiece = 512

// mergesOf returns the merges that give the tokens of SentencePiece: every division of a token into
// two tokens, the token of highest score first. Those of one token are in the order of transformers
// (generate_merges): the longest first part first.
func (v *vocabulary) mergesOf(scores []float32) ([][2]string, error) {
	ids, size := make(map[string]int32, len(v.tokens)), 0
	var order []int32
	for i, s := range v.tokens {
		if v.types[i] == NormalToken && !v.left[i] {
			if len(s) > maxPiece {
				v.keys.fail("tokens", "has a token of %d bytes at index %d; at most %d are supported", len(s), i, maxPiece)
				return nil, v.keys.err
			}
			ids[s] = int32(i)
			size += len(s)
			order = append(order, int32(i))
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(scores[b], scores[a]) })
	var pairs [][2]string
	total, last := 0, int32(-1) // last is the token that was merged before
	for _, id := range order {
		s, before := v.tokens[id], len(pairs)
		for at := len(s); at > 0; {
			_, n := utf8.DecodeLastRuneInString(s[:at])
			at -= n
			_, left := ids[s[:at]]
			_, right := ids[s[at:]]
			if at > 0 && left && right {
				pairs = append(pairs, [2]string{s[:at], s[at:]})
				total += len(s)
			}
		}
		if len(pairs) == before {
			continue
		}
		if total > mergeFactor*size {
			v.keys.fail("tokens", "has tokens that can be divided in too many ways; not a vocabulary of SentencePiece?")
			return nil, v.keys.err
		}
		if last >= 0 && scores[last] == scores[id] {
			v.keys.fail("scores", "is %v for both %q and %q, so that the order of merges does not follow from it", scores[id], v.tokens[last], s)
			return nil, v.keys.err
		}
		last = id
	}
	return pairs, nil
}

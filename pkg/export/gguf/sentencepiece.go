package gguf

import (
	"fmt"
	"slices"
	"strings"

	"afmq/internal/calibration"
	"afmq/pkg/fault"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/tokenizer"
)

const space = ggufmodel.Space

// sentencePiece describes BPE on characters with a visible space, the model "llama".
//
// llama.cpp's tokenizer for it has scores in place of merges: it joins the two neighbours whose
// text together is the token of highest score, whichever they are. A tokenizer.json that was
// converted from SentencePiece has a merge for every such pair, in the order of the scores.
// Others are accepted if the built-in text, which covers several languages, has the same tokens
// in both.
func (v *vocabulary) sentencePiece() error {
	prefix, err := v.spacePrefix()
	if err != nil {
		return err
	}
	if v.d.ByteTokens && !v.d.ByteFallback {
		return v.refuse("a vocabulary with byte tokens that characters outside it do not become (byte_fallback)")
	}
	if !v.d.ByteTokens {
		v.note("the vocabulary has no byte tokens: llama.cpp fails on a text with a character outside it")
	}
	if token, c, ok := v.unreachable(); ok {
		return fault.Infeasiblef("%s: no text has the token %q, because %q is not in the vocabulary; llama.cpp would use it", v.path, token, c)
	}
	scores := v.scores()
	if err := v.compareMerges(prefix, scores); err != nil {
		return err
	}
	v.model, v.pre = ggufmodel.SentencePiece, "default"
	v.add("ggml.model", v.model)
	v.add("ggml.pre", v.pre)
	v.add("ggml.scores", scores)
	v.add("ggml.add_space_prefix", prefix)
	return nil
}

// spacePrefix returns whether a space is added before a text, and refuses steps that llama.cpp
// does not have.
func (v *vocabulary) spacePrefix() (bool, error) {
	visible, prepend := `Replace " " "`+space+`"`, `Prepend "`+space+`"`
	switch steps := slices.Concat(v.d.Normalizer, v.d.PreTokenizer); strings.Join(steps, ", ") {
	case prepend + ", " + visible, visible + ", " + prepend:
		return true, nil
	case visible, `Metaspace "` + space + `" never`:
		return false, nil
	case `Metaspace "` + space + `" always`, `Metaspace "` + space + `" first`:
		v.note("llama.cpp adds a space before a text that begins with one, and after special tokens")
		return true, nil
	case `Metaspace "` + space + `" always split`, `Metaspace "` + space + `" first split`, `Metaspace "` + space + `" never split`:
		if token, crosses := v.crossesWords(); crosses {
			return false, v.refuse("the pre-tokenizer %s, and the token %q crosses words", strings.Join(steps, ", "), token)
		}
		if steps[0] == `Metaspace "`+space+`" never split` {
			return false, nil
		}
		v.note("llama.cpp adds a space before a text that begins with one, and after special tokens")
		return true, nil
	default:
		if len(steps) == 0 {
			return false, v.refuse("BPE on characters without a visible space")
		}
		return false, v.refuse("the normalizer and pre-tokenizer %s", strings.Join(steps, ", "))
	}
}

// crossesWords returns a token that merges make and that has a space after its beginning.
func (v *vocabulary) crossesWords() (string, bool) {
	for _, m := range v.d.Merges {
		left, _ := v.t.Token(m[0])
		right, _ := v.t.Token(m[1])
		if text := left + right; strings.LastIndex(text, space) > 0 {
			return text, true
		}
	}
	return "", false
}

// unreachable returns a token with a character that is not a token, which merges cannot make and
// llama.cpp makes from any characters.
func (v *vocabulary) unreachable() (token, char string, ok bool) {
	for id := range int32(v.cfg.VocabSize) {
		text, known := v.t.Token(id)
		if !known || id == v.d.Unknown || v.isAdded(id) || ggufmodel.IsByteToken(text) {
			continue
		}
		for _, c := range text {
			if _, ok := v.t.TokenID(string(c)); !ok {
				return text, string(c), true
			}
		}
	}
	return "", "", false
}

// isAdded reports whether a token is an added one.
func (v *vocabulary) isAdded(id int32) bool {
	_, found := slices.BinarySearchFunc(v.d.Added, id, func(a tokenizer.AddedToken, id int32) int { return int(a.ID) - int(id) })
	return found
}

// scores returns the score of each token: minus the rank of the first merge that makes it. Tokens
// that no merge makes have the lowest.
func (v *vocabulary) scores() []float32 {
	scores := make([]float32, v.cfg.VocabSize)
	for i := range scores {
		scores[i] = -float32(len(v.d.Merges))
	}
	for rank, m := range slices.Backward(v.d.Merges) {
		left, _ := v.t.Token(m[0])
		right, _ := v.t.Token(m[1])
		id, _ := v.t.TokenID(left + right)
		scores[id] = -float32(rank)
	}
	return scores
}

// compareMerges checks that the scores give the tokens of the built-in text.
func (v *vocabulary) compareMerges(prefix bool, scores []float32) error {
	for _, text := range calibration.Texts() {
		for _, line := range strings.Split(text, "\n") {
			shown := strings.ReplaceAll(line, " ", space)
			if prefix {
				shown = space + shown
			}
			got, complete := v.byScore(shown, scores)
			if line == "" || !complete || strings.HasPrefix(line, " ") || slices.ContainsFunc(v.d.Added, func(a tokenizer.AddedToken) bool {
				return strings.Contains(line, a.Content)
			}) {
				continue // what is left out is in the notes
			}
			if want := v.t.Encode(line, false).IDs; !slices.Equal(got, want) {
				return fault.Infeasiblef("%s: the merges do not follow from scores of tokens, which llama.cpp has in their place: %.40q has other tokens there", v.path, line)
			}
		}
	}
	return nil
}

// byScore returns the tokens of a text as llama.cpp's llm_tokenizer_spm makes them. It reports
// whether they have all of its characters.
func (v *vocabulary) byScore(text string, scores []float32) (ids []int32, complete bool) {
	symbols := strings.Split(text, "")
	// joined is the score of each symbol with the next one.
	const none = float32(-1 << 30)
	joined := make([]float32, len(symbols))
	score := func(i int) float32 {
		if i+1 < len(symbols) {
			if id, ok := v.t.TokenID(symbols[i] + symbols[i+1]); ok {
				return scores[id]
			}
		}
		return none
	}
	for i := range joined {
		joined[i] = score(i)
	}
	for len(symbols) > 0 {
		best := 0
		for i, s := range joined {
			if s > joined[best] {
				best = i
			}
		}
		if joined[best] == none {
			break
		}
		symbols[best] += symbols[best+1]
		symbols, joined = slices.Delete(symbols, best+1, best+2), slices.Delete(joined, best+1, best+2)
		joined[best] = score(best)
		if best > 0 {
			joined[best-1] = score(best - 1)
		}
	}
	for _, s := range symbols {
		if id, ok := v.t.TokenID(s); ok {
			ids = append(ids, id)
			continue
		}
		for _, b := range []byte(s) {
			id, ok := v.t.TokenID(fmt.Sprintf("<0x%02X>", b))
			if !ok {
				return nil, false
			}
			ids = append(ids, id)
		}
	}
	return ids, true
}

package gguf

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
	"afmq/pkg/tokenizer"
)

// vocabulary is the tokenizer as llama.cpp reads it.
type vocabulary struct {
	model string // tokenizer.ggml.model
	pre   string // tokenizer.ggml.pre
	keys  []file.KV
	notes []string

	dir  string
	path string // of tokenizer.json
	cfg  *model.Config
	t    *tokenizer.Tokenizer
	d    tokenizer.Description
}

// readVocabulary reads the tokenizer in a directory, and refuses one that llama.cpp does not have.
func readVocabulary(dir string, cfg *model.Config) (*vocabulary, error) {
	t, err := model.OpenTokenizer(dir, cfg)
	if err != nil {
		return nil, err
	}
	v := &vocabulary{dir: dir, path: filepath.Join(dir, artifact.TokenizerFile), cfg: cfg, t: t, d: t.Describe()}
	steps := []func() error{v.byteLevel, v.addTokens, v.special, v.template}
	if n := len(v.d.PreTokenizer); n == 0 || v.d.PreTokenizer[n-1] != "ByteLevel" {
		steps[0] = v.sentencePiece
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (v *vocabulary) add(key string, value any) {
	v.keys = append(v.keys, file.KV{Key: "tokenizer." + key, Value: value})
}

func (v *vocabulary) note(format string, args ...any) {
	v.notes = append(v.notes, fmt.Sprintf(format, args...))
}

// refuse returns the error for what llama.cpp's tokenizers do not have.
func (v *vocabulary) refuse(format string, args ...any) error {
	return fault.Infeasiblef("%s: llama.cpp does not have "+format, append([]any{v.path}, args...)...)
}

// byteLevel describes byte-level BPE, the model "gpt2".
func (v *vocabulary) byteLevel() error {
	steps := strings.Join(v.d.PreTokenizer, ", ")
	pre, ok := ggufmodel.PreTokenizer(steps, v.d.IgnoreMerges)
	if !ok {
		if v.d.IgnoreMerges {
			steps += ", with ignore_merges"
		}
		return v.refuse("the pre-tokenizer %s", steps)
	}
	switch {
	case slices.Equal(v.d.Normalizer, []string{"NFC"}):
		v.note("llama.cpp does not normalize text to NFC; other text has other tokens there")
	case len(v.d.Normalizer) > 0:
		return v.refuse("the normalizer %s", strings.Join(v.d.Normalizer, ", "))
	case !v.d.ByteTokens && v.d.Unknown >= 0:
		return v.refuse("an unk_token in byte-level BPE, and the vocabulary lacks bytes")
	}
	if pre == "gpt-4o" || pre == "tekken" {
		v.note("llama.cpp's expression %s treats all letters but a to z and A to Z as both cases, and marks as no letters", pre)
	}
	v.model, v.pre = ggufmodel.ByteLevel, pre
	merges := make([]string, len(v.d.Merges))
	for i, m := range v.d.Merges {
		left, _ := v.t.Token(m[0])
		right, _ := v.t.Token(m[1])
		merges[i] = left + " " + right
	}
	v.add("ggml.model", v.model)
	v.add("ggml.pre", v.pre)
	v.add("ggml.merges", merges)
	return nil
}

// addTokens lists the tokens with their types. Rows of the embedding without a token get a name
// that no token has.
func (v *vocabulary) addTokens() error {
	added := map[int32]tokenizer.AddedToken{}
	var normalized []string
	for _, a := range v.d.Added {
		if err := v.checkAdded(a); err != nil {
			return err
		}
		if a.Matched != a.Content {
			normalized = append(normalized, strconv.Quote(a.Content))
		}
		added[a.ID] = a
	}
	if len(normalized) > 0 {
		v.note("llama.cpp matches added tokens in the text as it is, the tokenizer in the normalized text: %s", some(normalized))
	}
	tokens, types := make([]string, v.cfg.VocabSize), make([]int32, v.cfg.VocabSize)
	for i := range tokens {
		id := int32(i)
		text, ok := v.t.Token(id)
		a, isAdded := added[id]
		switch {
		case !ok:
			types[i], text = ggufmodel.UnusedToken, v.unusedName(i)
		case v.model == ggufmodel.SentencePiece && id == v.d.Unknown:
			types[i] = ggufmodel.UnknownToken
		case isAdded && a.Special:
			types[i] = ggufmodel.ControlToken
		case isAdded:
			types[i] = ggufmodel.UserToken
		case v.model == ggufmodel.SentencePiece && ggufmodel.IsByteToken(text):
			types[i] = ggufmodel.ByteToken
		default:
			types[i] = ggufmodel.NormalToken
		}
		tokens[i] = text
	}
	v.add("ggml.tokens", tokens)
	v.add("ggml.token_type", types)
	return nil
}

// checkAdded checks that llama.cpp matches an added token as the tokenizer does.
func (v *vocabulary) checkAdded(a tokenizer.AddedToken) error {
	var flags []string
	for name, set := range map[string]bool{"single_word": a.SingleWord, "lstrip": a.LStrip, "rstrip": a.RStrip} {
		if set {
			flags = append(flags, name)
		}
	}
	if len(flags) == 0 {
		return nil
	}
	slices.Sort(flags)
	if !a.Special {
		return v.refuse("%s of the added token %q", strings.Join(flags, ", "), a.Content)
	}
	v.note("llama.cpp does not have %s of the special token %q", strings.Join(flags, ", "), a.Content)
	return nil
}

// some joins the first of many names.
func some(names []string) string {
	if len(names) > 3 {
		names = append(slices.Clone(names[:3]), "…")
	}
	return strings.Join(names, ", ")
}

// unusedName returns a name for a row of the embedding that has no token.
func (v *vocabulary) unusedName(id int) string {
	name := fmt.Sprintf("[PAD%d]", id)
	for {
		if _, taken := v.t.TokenID(name); !taken {
			return name
		}
		name += "_"
	}
}

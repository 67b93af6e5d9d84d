package ggufmodel_test

import (
	"slices"
	"strings"
	"testing"

	"afmq/pkg/ggufmodel"
	"afmq/pkg/tokenizer"
)

func tokenizerOf(t testing.TB, f *file) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := f.open(t).Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// Tokens of the type "unused" are none, special tokens are matched, and the ends of a text follow
// the keys, or the defaults of the pre-tokenizer.
func TestByteLevel(t *testing.T) {
	f := base()
	tok := tokenizerOf(t, f)
	if got := tok.Encode("<s>the[PAD259]", true).IDs; !slices.Equal(got[:2], []int32{258, 257}) || slices.Contains(got, 259) {
		t.Errorf("ids %v", got)
	}
	if tok.MaxID() != 258 {
		t.Errorf("largest id %d", tok.MaxID())
	}
	for _, test := range []struct {
		pre   string
		keys  map[string]any
		first bool
		last  bool
	}{
		{"gpt-2", nil, false, false},
		{"llama-bpe", nil, true, false},
		{"llama-bpe", map[string]any{"add_bos_token": false, "add_eos_token": true}, false, true},
	} {
		f := base()
		f.keys["tokenizer.ggml.pre"] = test.pre
		for k, v := range test.keys {
			f.keys["tokenizer.ggml."+k] = v
		}
		ids := tokenizerOf(t, f).Encode("the", true).IDs
		if ids[0] == 258 != test.first || ids[len(ids)-1] == 258 != test.last {
			t.Errorf("%s %v: ids %v", test.pre, test.keys, ids)
		}
	}
}

// A file without types of tokens has the special ones in its keys.
func TestNoTypes(t *testing.T) {
	f := base()
	delete(f.keys, "tokenizer.ggml.token_type")
	if got := tokenizerOf(t, f).Encode("a<s>", false).IDs; !slices.Equal(got, []int32{97, 258}) {
		t.Errorf("ids %v", got)
	}
}

// Merges follow from scores: "th" before "the" before "▁the" before "he".
func TestScores(t *testing.T) {
	f := base()
	f.sentencePiece()
	tok := tokenizerOf(t, f)
	for text, want := range map[string][]int32{
		"the":     {1, 10},
		" the":    {1, 3, 10},
		"he the":  {1, 3, 11, 10},
		"x":       {1, 3, 0},
		"a</s>th": {1, 3, 7, 2, 3, 8},
	} {
		if got := tok.Encode(text, true).IDs; !slices.Equal(got, want) {
			t.Errorf("%q has %v, expected %v", text, got, want)
		}
	}
	f.keys["tokenizer.ggml.add_space_prefix"], f.keys["tokenizer.ggml.add_bos_token"] = false, false
	if got := tokenizerOf(t, f).Encode("the", true).IDs; !slices.Equal(got, []int32{9}) {
		t.Errorf("without a space before the text: %v", got)
	}
}

// A vocabulary whose tokens can be divided in very many ways takes no more memory than a multiple
// of the file.
func TestManyMerges(t *testing.T) {
	f := base()
	f.sentencePiece()
	var tokens []string
	var types []int32
	var scores []float32
	for n := range 500 {
		tokens, types, scores = append(tokens, strings.Repeat("a", n+1)), append(types, ggufmodel.NormalToken), append(scores, -float32(n))
	}
	f.keys["tokenizer.ggml.tokens"], f.keys["tokenizer.ggml.token_type"], f.keys["tokenizer.ggml.scores"] = tokens, types, scores
	f.tensor("token_embd.weight").Shape[0] = 500
	if _, err := f.open(t).Tokenizer(); err == nil || !strings.Contains(err.Error(), "can be divided in too many ways") {
		t.Errorf("%v", err)
	}
}

// Equal files give equal bytes of tokenizer.json.
func TestTokenizerJSON(t *testing.T) {
	var before []byte
	for range 3 {
		data, err := base().open(t).TokenizerJSON()
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && string(before) != string(data) {
			t.Fatal("the bytes differ")
		}
		before = data
	}
}

package eval_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/eval"
	"afmq/pkg/tokenizer"
)

// TestRepetitionShares prints the shares of docs/ci.md, of texts and models in the directory that
// AFMQ_SHARED names:
//
//	AFMQ_SHARED=DIR go test -v -run RepetitionShares ./pkg/eval
func TestRepetitionShares(t *testing.T) {
	dir := os.Getenv("AFMQ_SHARED")
	if dir == "" {
		t.Skip("AFMQ_SHARED names no directory")
	}
	var vocabularies []*tokenizer.Tokenizer
	for _, name := range []string{"afm-mini", "afm-tiny", "tinystories-656k"} {
		tok, err := tokenizer.Load(filepath.Join(dir, "models", name, "tokenizer.json"))
		if err != nil {
			t.Fatal(err)
		}
		vocabularies = append(vocabularies, tok)
	}
	report := func(name string, texts []string) {
		var passages, phrases []float64
		for _, tok := range vocabularies {
			c, err := eval.EncodeTexts(name, texts, tok, 0)
			if err != nil {
				t.Fatal(err)
			}
			r := c.Repetition()
			passages, phrases = append(passages, 100*r.Passages), append(phrases, 100*r.Phrases)
		}
		t.Logf("%-40s 24 ids %.1f to %.1f, 32 bytes %.1f to %.1f", name,
			slices.Min(passages), slices.Max(passages), slices.Min(phrases), slices.Max(phrases))
	}
	var novel string
	for _, name := range []string{"public.txt", "wiki.test.raw", "calib.jsonl"} {
		texts, _, err := eval.ReadTexts(filepath.Join(dir, "corpora", name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "public.txt" {
			novel = texts[0][:20000]
		}
		report(name, texts)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	lines, words := strings.Split(novel, "\n"), strings.Fields(novel)
	var shuffled, filled []string
	for copy := range 6 {
		for _, i := range rng.Perm(len(lines)) {
			shuffled = append(shuffled, lines[i])
		}
		for i, word := range words {
			if filled = append(filled, word); i%12 == 2*copy {
				filled = append(filled, words[rng.IntN(len(words))])
			}
		}
	}
	report("copies with their lines shuffled", []string{strings.Join(shuffled, "\n")})
	report("copies with a word inserted in every 12", []string{strings.Join(filled, " ")})
}

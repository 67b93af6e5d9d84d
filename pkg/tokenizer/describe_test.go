package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

// The steps of the pipelines of testdata, under the names that Description documents.
func TestDescribe(t *testing.T) {
	for name, want := range map[string]string{
		"gpt2":                            "Split gpt-2 Isolated, ByteLevel",
		"gpt2-prefix":                     "PrefixSpace, Split gpt-2 Isolated, ByteLevel",
		"gpt2-whole":                      "PrefixSpace, ByteLevel",
		"llama3":                          "Split llama-3 Isolated, ByteLevel",
		"cl100k":                          "Split llama-3 Isolated, ByteLevel",
		"qwen2":                           "NFC | Split qwen2 Isolated, ByteLevel",
		"tekken":                          "Split tekken Isolated, ByteLevel",
		"o200k":                           "Split gpt-4o Isolated, ByteLevel",
		"smollm":                          "Digits individual, Split gpt-2 Isolated, ByteLevel",
		"digits":                          "Digits, PrefixSpace, Split gpt-2 Isolated, ByteLevel",
		"llama2":                          `Prepend "▁", Replace " " "▁" | `,
		"metaspace-first":                 `Metaspace "▁" first`,
		"metaspace-legacy":                `Metaspace "▁" always split`,
		"strip":                           `Strip left right | Split " " Contiguous, Metaspace "▁" first split`,
		"split-Removed":                   `Split "a" Removed, Split gpt-2 Removed`,
		"split-Removed-invert":            `Split "a" Removed inverted, Split gpt-2 Isolated`,
		"split-MergedWithPrevious-invert": `Split "a" MergedWithPrevious inverted, Split gpt-2 MergedWithPrevious inverted`,
	} {
		i := slices.IndexFunc(loadFixtures(t).golden, func(g *golden) bool { return g.Name == name })
		d := loadFixtures(t).golden[i].tokenizer.Describe()
		got := strings.Join(d.PreTokenizer, ", ")
		if len(d.Normalizer) > 0 {
			got = strings.Join(d.Normalizer, ", ") + " | " + got
		}
		if got != want {
			t.Errorf("%s: %s, expected %s", name, got, want)
		}
	}
}

// A tokenizer that is built again from the description of the merges and the tokens is the same;
// so are the flags.
func TestDescribeModel(t *testing.T) {
	f := loadFixtures(t)
	for _, g := range f.golden {
		d := g.tokenizer.Describe()
		var merges [][2]string
		for _, m := range d.Merges {
			left, _ := g.tokenizer.Token(m[0])
			right, _ := g.tokenizer.Token(m[1])
			merges = append(merges, [2]string{left, right})
		}
		if want := f.vocabs[g.Vocabulary].Merges; !slices.Equal(merges, want) {
			t.Errorf("%s: %d merges, expected %d in the order of the file", g.Name, len(merges), len(want))
		}
		if !slices.Equal(d.Before, g.Before) || !slices.Equal(d.After, g.After) {
			t.Errorf("%s: %v and %v are added, expected %v and %v", g.Name, d.Before, d.After, g.Before, g.After)
		}
		for key, got := range map[string]bool{"ignore_merges": d.IgnoreMerges, "byte_fallback": d.ByteFallback} {
			if want := string(g.Model[key]) == "true"; got != want {
				t.Errorf("%s: %s is %v", g.Name, key, got)
			}
		}
		if unk, ok := g.Model["unk_token"]; ok != (d.Unknown >= 0) {
			t.Errorf("%s: unknown token %d, the file has %s", g.Name, d.Unknown, unk)
		}
		if gaps := slices.Contains([]string{"bytes-gaps", "few-codes", "sentence-unk"}, g.Vocabulary); d.ByteTokens == gaps && g.Vocabulary != "across" {
			t.Errorf("%s: all bytes have tokens: %v", g.Name, d.ByteTokens)
		}
	}
}

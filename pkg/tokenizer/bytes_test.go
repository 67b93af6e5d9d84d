package tokenizer

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// The bytes of the tokens of a text, joined, are the text that the official library decodes, but
// for a space at its beginning that some decoders omit, and parts of characters that are no text.
func TestTokenBytes(t *testing.T) {
	f := loadFixtures(t)
	compared := 0
	for _, g := range f.golden {
		if _, ok := g.Parts["decoder"]; !ok {
			continue // the library joins by spaces
		}
		for _, text := range f.texts {
			ids := g.tokenizer.Encode(text, false).IDs
			var joined []byte
			for _, id := range ids {
				joined = append(joined, g.tokenizer.TokenBytes(id)...)
			}
			if !utf8.Valid(joined) {
				continue
			}
			want := g.tokenizer.Decode(ids, false)
			if got := string(joined); got != want && got != " "+want && strings.TrimSpace(got) != strings.TrimSpace(want) {
				t.Errorf("%s: the tokens of %q are %q, decoded %q", g.Name, text, got, want)
			}
			compared++
		}
	}
	if compared < 1000 {
		t.Errorf("only %d texts were compared", compared)
	}
	for _, g := range f.golden {
		if b := g.tokenizer.TokenBytes(g.tokenizer.MaxID() + 1); b != nil {
			t.Errorf("%s: an unknown id has the bytes %q", g.Name, b)
		}
	}
	// A character outside the vocabulary has tokens that are parts of it, in either form.
	const temple = "\U0001F3DB"
	divided := 0
	for _, g := range f.golden {
		var joined []byte
		parts := 0
		for _, id := range g.tokenizer.Encode(temple, false).IDs {
			b := g.tokenizer.TokenBytes(id)
			if len(b) > 0 && !utf8.Valid(b) {
				parts++
			}
			joined = append(joined, b...)
		}
		if parts > 0 && !g.drops() && g.Name != "gpt2-gaps-unk" {
			divided++
			if strings.TrimSpace(string(joined)) != temple {
				t.Errorf("%s: the tokens of %q are %q", g.Name, temple, joined)
			}
		}
	}
	if divided < 4 {
		t.Errorf("%d tokenizers divide %q", divided, temple)
	}
}

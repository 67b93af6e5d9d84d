package tokenizer

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse parses malformed and unusual files; accepted ones must work.
func FuzzParse(f *testing.F) {
	fix := loadFixtures(f)
	small := vocabulary{Vocab: []string{"<unk>", "a", "b", "▁", "ab", "▁ab", "<0x41>"}, Merges: [][2]string{{"a", "b"}, {"▁", "ab"}}}
	for _, g := range fix.golden {
		parts := g.Parts
		file := assemble(small, g.Model, parts)
		f.Add(file)
		// Use ids of the small vocabulary, so that mutated files pass more checks.
		f.Add(bytes.ReplaceAll(file, []byte(`"added_tokens":[{`), []byte(`"added":[{`)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Parse("fuzz", data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		for _, text := range []string{"", " ab  <unk> a\u0301b\n", "\xff日本 don't 123 ▁▁[L] x"} {
			e := tok.Encode(text, true)
			checkEncoding(t, tok, text, e)
			checkStream(t, tok, e.IDs, true)
		}
	})
}

func checkEncoding(t *testing.T, tok *Tokenizer, text string, e Encoding) {
	t.Helper()
	if len(e.IDs) != len(e.Bytes) {
		t.Fatalf("%d ids, %d byte counts", len(e.IDs), len(e.Bytes))
	}
	sum := 0
	for i, id := range e.IDs {
		if id < 0 || id > tok.MaxID() {
			t.Errorf("%q: id %d, MaxID %d", text, id, tok.MaxID())
		}
		if e.Bytes[i] < 0 {
			t.Errorf("%q: token %d covers %d bytes", text, i, e.Bytes[i])
		}
		sum += int(e.Bytes[i])
	}
	if sum > len(text) {
		t.Errorf("%q: tokens cover %d bytes of %d", text, sum, len(text))
	}
}

// FuzzEncode encodes texts with every golden pipeline.
func FuzzEncode(f *testing.F) {
	fix := loadFixtures(f)
	for i, s := range fix.texts {
		f.Add(s, uint8(i))
	}
	f.Add("\xff\xe4\xbd a\x80", uint8(0))
	f.Fuzz(func(t *testing.T, text string, which uint8) {
		g := fix.golden[int(which)%len(fix.golden)]
		e := g.tokenizer.Encode(text, true)
		checkEncoding(t, g.tokenizer, text, e)
		g.checkBytes(t, text, e)
		checkStream(t, g.tokenizer, e.IDs, which&1 == 0)
		switch g.Name {
		case "gpt2", "llama3", "cl100k", "smollm":
			plain := g.tokenizer.Encode(text, false)
			want := newPiece(text, 1<<30).s
			if got := g.tokenizer.Decode(plain.IDs, false); got != want {
				t.Errorf("%q comes back as %q", want, got)
			}
			// The bytes of the tokens before a position are the decoded text before it.
			if utf8.ValidString(text) && len(plain.IDs) > 1 {
				k, n := len(plain.IDs)/2, 0
				for _, b := range plain.Bytes[:k] {
					n += int(b)
				}
				if got := g.tokenizer.Decode(plain.IDs[:k], false); utf8.ValidString(text[:n]) && got != text[:n] {
					t.Errorf("%q: %d tokens decode to %q and cover %q", text, k, got, text[:n])
				}
			}
		}
	})
}

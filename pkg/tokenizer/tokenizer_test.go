package tokenizer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"afmq/pkg/fault"
)

// TestRefused checks that an invalid file, or one that could not be encoded exactly, is refused
// with one line that names the file and the cause.
func TestRefused(t *testing.T) {
	const model = `"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`
	with := func(s string) string { return "{" + s + "," + model + "}" }
	bpe := func(s string) string { return `{"model":{"type":"BPE",` + s + `}}` }
	token := func(id, content string) string {
		return `{"id":` + id + `,"content":` + content + `,"single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false}`
	}
	deep := strings.Repeat(`{"type":"Sequence","normalizers":[`, 20) + `{"type":"NFC"}` + strings.Repeat("]}", 20)
	for _, test := range []struct{ file, want string }{
		{``, "not a JSON object"},
		{`[1]`, "not a JSON object"},
		{`{"model":`, "not valid JSON"},
		{"{\"a\xff\":1}", "not valid UTF-8"},
		{`{"a":"\ud800x"}`, "unpaired surrogate escape at byte 6"},
		{`{"a":"\udc00\ud800"}`, "unpaired surrogate escape"},
		{`{}`, `lacks "model"`},
		{`{"model":null}`, `lacks "model"`},
		{`{"version":"2.0"}`, `unknown version "2.0"`},
		{`{"model":{"type":"Unigram","vocab":[]}}`, `model is not supported: model "Unigram"`},
		{`{"model":{"type":"WordPiece","vocab":{}}}`, `"WordPiece"`},
		{`{"model":{"vocab":{}}}`, `not supported: model ""`},
		{bpe(`"vocab":{}`), `lacks "merges"`},
		{bpe(`"merges":[]`), `lacks "vocab"`},
		{bpe(`"vocab":[],"merges":[]`), `"vocab"`},
		{bpe(`"vocab":{"a":-1},"merges":[]`), `"a" the id -1`},
		{bpe(`"vocab":{"a":1.5},"merges":[]`), `id 1.5`},
		{bpe(`"vocab":{"a":null},"merges":[]`), `not an integer`},
		{bpe(`"vocab":{"a":{}},"merges":[]`), `not an integer`},
		{bpe(`"vocab":{"a":2147483648},"merges":[]`), `id 2147483648`},
		{bpe(`"vocab":{"a":99999999999999999999},"merges":[]`), `not an integer`},
		{bpe(`"vocab":{"a":1,"b":1},"merges":[]`), `"a" and "b" the same id 1`},
		{bpe(`"vocab":{"a":1,"a":2},"merges":[]`), `duplicate token "a"`},
		{bpe(`"vocab":{"a":1},"merges":["a b"]`), `needs "b"`},
		{bpe(`"vocab":{"a":1,"b":2},"merges":["a b"]`), `needs "ab"`},
		{bpe(`"vocab":{"a":1},"merges":["a"]`), "not a pair"},
		{bpe(`"vocab":{"a":1},"merges":["a a a"]`), "not a pair"},
		{bpe(`"vocab":{"a":1,"":2},"merges":[["","a"]]`), "not a pair"},
		{bpe(`"vocab":{"a":1},"merges":[["a"]]`), "not a pair"},
		{bpe(`"vocab":{"a":1},"merges":[["a","a"],"a a"]`), `"merges"`},
		{bpe(`"vocab":{"a":1},"merges":[],"dropout":0.1`), "dropout 0.1"},
		{bpe(`"vocab":{"a":1},"merges":[],"continuing_subword_prefix":"##"`), "continuing_subword_prefix"},
		{bpe(`"vocab":{"a":1},"merges":[],"end_of_word_suffix":"</w>"`), "end_of_word_suffix"},
		{bpe(`"vocab":{"a":1},"merges":[],"unk_token":"?"`), `unk_token "?"`},
		{bpe(`"vocab":{"a":1},"merges":[],"fuse_unk":3`), `"fuse_unk"`},
		{with(`"normalizer":{"type":"NFKC"}`), `normalizer "NFKC"`},
		{with(`"normalizer":{"type":"Lowercase"}`), `normalizer "Lowercase"`},
		{with(`"normalizer":{}`), `normalizer lacks "type"`},
		{with(`"normalizer":[]`), `normalizer is not a JSON object`},
		{with(`"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Nmt"}]}`), `normalizer.normalizers[1] is not supported: normalizer "Nmt"`},
		{with(`"normalizer":{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}`), `expression " {2,}"`},
		{with(`"normalizer":{"type":"Replace","pattern":{"String":""},"content":" "}`), "empty"},
		{with(`"normalizer":{"type":"Replace","pattern":{"String":"a"},"content":"` + strings.Repeat("a", 300) + `"}`), "lengthen a text 300 times"},
		{with(`"normalizer":` + deep), "deep"},
		{with(`"pre_tokenizer":{"type":"Whitespace"}`), `pre-tokenizer "Whitespace"`},
		{with(`"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\d+"},"behavior":"Isolated","invert":false}`), `expression "\\d+"`},
		{with(`"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Odd","invert":false}`), `behaviour "Odd"`},
		{with(`"pre_tokenizer":{"type":"ByteLevel","trim_offsets":true}`), `lacks "add_prefix_space"`},
		{with(`"pre_tokenizer":{"type":"Metaspace","replacement":"ab"}`), "not one character"},
		{with(`"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"last"}`), `"last"`},
		{with(`"post_processor":{"type":"BertProcessing","sep":["a",0],"cls":["b",1]}`), `post-processor "BertProcessing"`},
		{with(`"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}}],"special_tokens":{}}`), `"x", which is not in special_tokens`},
		{with(`"post_processor":{"type":"TemplateProcessing","single":[],"special_tokens":{}}`), "exactly once"},
		{with(`"decoder":{"type":"WordPiece","prefix":"##","cleanup":true}`), `decoder "WordPiece"`},
		{with(`"decoder":{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]}`), "after Fuse"},
		{with(`"decoder":{"type":"Strip","content":" ","start":-1,"stop":0}`), `invalid "start"`},
		{with(`"added_tokens":[` + token("7", `"c"`) + `]`), `"c" the id 7, but its position gives it the id 3`},
		{with(`"added_tokens":[` + token("1", `"a"`) + `]`), `"a" the id 1`},
		{with(`"added_tokens":[` + token("-1", `"a"`) + `]`), `id -1`},
		{with(`"added_tokens":[{"id":3,"content":"c"}]`), `lacks "single_word"`},
		{with(`"normalizer":{"type":"Replace","pattern":{"String":"c"},"content":"d"},"added_tokens":[` + token("3", `"c"`) + `,` + token("4", `"d"`) + `]`), "identical after normalization"},
		{with(`"normalizer":{"type":"Replace","pattern":{"String":"c"},"content":""},"added_tokens":[` + token("3", `"c"`) + `]`), "is empty after normalization"},
	} {
		_, err := Parse("dir/tokenizer.json", []byte(test.file))
		if err == nil {
			t.Errorf("%.120s: accepted, want an error about %s", test.file, test.want)
			continue
		}
		if msg := err.Error(); !strings.HasPrefix(msg, "dir/tokenizer.json: ") || !strings.Contains(msg, test.want) || strings.Contains(msg, "\n") || len(msg) > 300 {
			t.Errorf("%.120s:\n got %s\nwant %s", test.file, msg, test.want)
		}
		if fault.KindOf(err) != fault.Input {
			t.Errorf("%.120s: %v is %v, not bad input", test.file, err, fault.KindOf(err))
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.json")); fault.KindOf(err) != fault.Input {
		t.Errorf("missing file: %v", err)
	}
	name := filepath.Join(dir, "tokenizer.json")
	if err := os.WriteFile(name, loadFixtures(t).golden[0].file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name); err != nil {
		t.Error(err)
	}
}

// tiny parses a file around a small model.
func tiny(t *testing.T, parts string) *Tokenizer {
	t.Helper()
	tok, err := Parse("tiny", []byte(`{`+parts+`"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":5,"\ud83d\ude00":900},"merges":["#version: 0.2","a b"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestVocabulary(t *testing.T) {
	tok := tiny(t, `"added_tokens":[],"truncation":{"max_length":1},"padding":null,`)
	if tok.MaxID() != 900 {
		t.Errorf("MaxID = %d", tok.MaxID())
	}
	for s, want := range map[string]int32{"a": 0, "ab": 5, "😀": 900} {
		if id, ok := tok.TokenID(s); !ok || id != want {
			t.Errorf("TokenID(%q) = %d, %v", s, id, ok)
		}
		if got, ok := tok.Token(want); !ok || got != s {
			t.Errorf("Token(%d) = %q, %v", want, got, ok)
		}
	}
	if _, ok := tok.TokenID("c"); ok {
		t.Error("TokenID(c) is there")
	}
	if _, ok := tok.Token(3); ok {
		t.Error("Token(3) is there")
	}
	if _, ok := tok.BOS(); ok {
		t.Error("BOS is there")
	}
	// Truncation is ignored, gaps between ids are valid, unknown ids decode to nothing.
	if e := tok.Encode("abcab😀", true); !slices.Equal(e.IDs, []int32{5, 5, 900}) || !slices.Equal(e.Bytes, []int32{2, 2, 4}) {
		t.Errorf("Encode = %v", e)
	}
	if s := tok.Decode([]int32{5, 77, -1, 900}, false); s != "ab 😀" {
		t.Errorf("Decode = %q", s)
	}
	if e := tok.Encode("", true); len(e.IDs) != 0 {
		t.Errorf("Encode of nothing = %v", e)
	}
	p := `"added_tokens":[],"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"x":{"id":"x","ids":[1000],"tokens":["x"]}}},`
	if tok := tiny(t, p); tok.MaxID() != 1000 {
		t.Errorf("MaxID = %d where the template adds 1000", tok.MaxID())
	}
}

// TestInvalidUTF8 compares the decoding of invalid UTF-8 with the results of Python's
// bytes.decode(errors="replace").
func TestInvalidUTF8(t *testing.T) {
	for in, want := range map[string]string{
		"a\xffb":                    "a\uFFFDb",
		"\xe4\xbd":                  "\uFFFD",
		"\xe4\xbdA":                 "\uFFFDA",
		"\xe4A":                     "\uFFFDA",
		"\xf0\x9f\x98":              "\uFFFD",
		"\xf0\x9f\x98\x80\x80":      "😀\uFFFD",
		"\xc0\xaf":                  "\uFFFD\uFFFD",
		"\xed\xa0\x80":              "\uFFFD\uFFFD\uFFFD",
		"\xf4\x90\x80\x80":          "\uFFFD\uFFFD\uFFFD\uFFFD",
		"\xe0\x80x\xf0\x80":         "\uFFFD\uFFFDx\uFFFD\uFFFD",
		"\xf1\x80\x80\xe4\xb8é\xc3": "\uFFFD\uFFFDé\uFFFD",
	} {
		p := newPiece(in, 1<<30)
		if p.s != want {
			t.Errorf("%+q reads as %+q, want %+q", in, p.s, want)
		}
		if p.at(0) != 0 || p.at(len(p.s)) != len(in) {
			t.Errorf("%+q: from %d to %d of %d bytes", in, p.at(0), p.at(len(p.s)), len(in))
		}
	}
	g := byName(t, "gpt2")
	if got, want := g.tokenizer.Encode("a\xffb", false), g.tokenizer.Encode("a\uFFFDb", false); !slices.Equal(got.IDs, want.IDs) {
		t.Errorf("ids %v, want %v", got.IDs, want.IDs)
	}
}

func byName(t testing.TB, name string) *golden {
	for _, g := range loadFixtures(t).golden {
		if g.Name == name {
			return g
		}
	}
	t.Fatal("no golden tokenizer ", name)
	return nil
}

// TestStream checks for all pipelines and many ids that a stream emits complete characters, and
// in total the result of Decode.
func TestStream(t *testing.T) {
	f := loadFixtures(t)
	for _, g := range f.golden {
		for i, ids := range g.IDs {
			for _, skip := range []bool{false, true} {
				checkStream(t, g.tokenizer, ids, skip)
			}
			// Tokens out of order split characters.
			back := slices.Clone(ids)
			slices.Reverse(back)
			checkStream(t, g.tokenizer, back, i%2 == 0)
		}
	}
}

func checkStream(t *testing.T, tok *Tokenizer, ids []int32, skip bool) {
	t.Helper()
	s := tok.Stream(skip)
	var b strings.Builder
	for _, id := range ids {
		part := s.Next(id)
		if !utf8.ValidString(part) {
			t.Errorf("%v: Next(%d) = %+q", ids, id, part)
		}
		b.WriteString(part)
	}
	b.WriteString(s.Flush())
	if want := tok.Decode(ids, skip); b.String() != want {
		t.Errorf("%v: stream %q, Decode %q", ids, b.String(), want)
	}
}

// TestStreamPrompt checks that text is held back only as long as necessary.
func TestStreamPrompt(t *testing.T) {
	g := byName(t, "gpt2")
	s := g.tokenizer.Stream(false)
	var parts []string
	for _, b := range []byte("a你b\xf0\x9fc") {
		parts = append(parts, s.Next(g.tokenizer.model.alphabet[b]))
	}
	parts = append(parts, s.Flush())
	if want := []string{"a", "", "", "你", "b", "", "", "\uFFFDc", ""}; !slices.Equal(parts, want) {
		t.Errorf("byte level: %q, want %q", parts, want)
	}
	g = byName(t, "llama2")
	s, parts = g.tokenizer.Stream(false), nil
	for _, token := range []string{"▁", "a", "▁the", "<0xE4>", "<0xBD>", "<0xA0>", "b", "<0xE4>", "c"} {
		id, ok := g.tokenizer.TokenID(token)
		if !ok {
			t.Fatal(token)
		}
		parts = append(parts, s.Next(id))
	}
	if want := []string{"", "a", " the", "", "", "", "你b", "", "\uFFFDc"}; !slices.Equal(parts, want) {
		t.Errorf("byte fallback: %q, want %q", parts, want)
	}
}

// TestConcurrent runs under the race detector.
func TestConcurrent(t *testing.T) {
	f := loadFixtures(t)
	g := byName(t, "llama3")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range f.texts {
				k := (i*7 + w*13) % len(f.texts)
				if got := g.tokenizer.Encode(f.texts[k], false).IDs; !slices.Equal(got, g.IDs[k]) {
					t.Errorf("%q: %v, want %v", f.texts[k], got, g.IDs[k])
				}
			}
		})
	}
	wg.Wait()
}

// TestCacheOverflow checks results after the cache was cleared.
func TestCacheOverflow(t *testing.T) {
	g := byName(t, "llama2")
	c := newCoders(g.tokenizer.model, false).get()
	encode := func(s string) (ids []int32) {
		c.encode(s, func(m mark) { ids = append(ids, m.id) })
		return ids
	}
	want := encode("▁thequick")
	for i := range cachedWords + 100 {
		encode(string(rune('a'+i%26)) + string(mustJSON(i)))
	}
	if n := len(c.words) + len(c.parts); n > cachedWords {
		t.Errorf("the cache holds %d words", n)
	}
	if got := encode("▁thequick"); !slices.Equal(got, want) {
		t.Errorf("%v, then %v", want, got)
	}
}

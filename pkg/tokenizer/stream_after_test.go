package tokenizer

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// The text of a prompt and that of its continuation, joined, are the text of both, wherever the tokens
// are divided; a character that is divided belongs to the continuation.
func TestStreamAfter(t *testing.T) {
	f := loadFixtures(t)
	compared, spaces := 0, 0
	for _, g := range f.golden {
		if _, ok := g.Parts["decoder"]; !ok {
			continue // the library joins by spaces
		}
		for i := 0; i < len(f.texts); i += 7 {
			ids := g.tokenizer.Encode(f.texts[i], false).IDs
			whole := g.tokenizer.Decode(ids, true)
			if len(ids) < 2 || len(ids) > 200 || strings.Contains(whole, "\uFFFD") {
				continue
			}
			var joined []byte
			for _, id := range ids {
				joined = append(joined, g.tokenizer.TokenBytes(id)...)
			}
			dropped := strings.Index(string(joined), whole) // a space at the beginning
			if dropped < 0 || len(joined) != dropped+len(whole) {
				continue // the pipeline drops other text
			}
			at := -dropped
			for cut := 1; cut < len(ids); cut++ {
				at += len(g.tokenizer.TokenBytes(ids[cut-1]))
				from := max(at, 0)
				for from > 0 && from < len(whole) && !utf8.RuneStart(whole[from]) {
					from--
				}
				s := g.tokenizer.StreamAfter(ids[:cut], true)
				rest := ""
				for _, id := range ids[cut:] {
					rest += s.Next(id)
				}
				rest += s.Flush()
				if strings.HasPrefix(rest, " ") {
					spaces++
				}
				if rest != whole[from:] {
					t.Errorf("%s: %q divided after %d of %d tokens: %q", g.Name, whole, cut, len(ids), rest)
				}
				compared++
			}
		}
	}
	if compared < 1000 || spaces < 100 {
		t.Errorf("%d divisions, %d continuations that begin with a space", compared, spaces)
	}
}

package batch

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// The text of an answer is that of its tokens up to the first stop, the parts that Add returns
// are the text, and no part is taken back.
func TestAnswer(t *testing.T) {
	k := tiny(t).Tokenizer
	rng := rand.New(rand.NewPCG(5, 6))
	words := strings.Fields("the old man — “looked” at the sea señor 海 and 🏛 nothing")
	for range 300 {
		var list []string
		for range 1 + rng.IntN(12) {
			list = append(list, words[rng.IntN(len(words))])
		}
		text := strings.Join(list, " ")
		var stops []string
		for range rng.IntN(3) {
			runes := []rune(text)
			from := rng.IntN(len(runes))
			stops = append(stops, string(runes[from:from+1+rng.IntN(min(6, len(runes)-from))]))
		}
		stops = append(stops, "no such text")
		want, stopped := text, false
		for end := 1; end <= len(text) && !stopped; end++ {
			for _, s := range stops {
				if strings.HasSuffix(text[:end], s) {
					stopped = true
					want = want[:min(end-len(s), len(want))]
				}
			}
		}
		a := NewAnswer(k, nil, stops)
		got := ""
		for _, id := range k.Encode(text, false).IDs {
			part, stop := a.Add(Token{ID: id})
			got += part
			if got != a.Text() {
				t.Fatalf("the parts are %q, the text %q", got, a.Text())
			}
			if stop {
				break
			}
		}
		got += a.End()
		was, ending := a.Stopped()
		if got != want || a.Text() != want || was != stopped || ending != nil || a.Characters() != utf8.RuneCountInString(want) {
			t.Fatalf("stops %q of %q: %q (%v), want %q (%v)", stops, text, got, was, want, stopped)
		}
		before := -1
		for _, p := range a.Tokens() {
			if p.Offset < before || p.Offset > utf8.RuneCountInString(text) {
				t.Errorf("token offsets %v in %q", a.Tokens(), got)
			}
			before = p.Offset
		}
	}
	// A stop that is a special token is not in the text.
	special := ""
	for _, d := range k.Describe().Added {
		if d.Special {
			special = d.Content
		}
	}
	id, ok := k.TokenID(special)
	if !ok {
		t.Fatal("no special token")
	}
	a := NewAnswer(k, nil, []string{special})
	a.Add(Token{ID: k.Encode("old", false).IDs[0]})
	if _, stop := a.Add(Token{ID: id}); !stop {
		t.Error("a special token does not stop the answer")
	}
	if stopped, ending := a.Stopped(); !stopped || ending == nil || ending.ID != id || strings.Contains(a.Text(), special) {
		t.Errorf("%v, %v, %q", stopped, ending, a.Text())
	}
}

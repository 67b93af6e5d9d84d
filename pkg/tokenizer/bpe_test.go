package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// randomModel makes a vocabulary over a few characters with merges in random order, which
// training does not produce.
func randomModel(rng *rand.Rand, letters string, merges int) map[string]any {
	vocab := map[string]int{}
	var tokens []string
	add := func(s string) {
		if _, ok := vocab[s]; !ok {
			vocab[s] = len(vocab)
			tokens = append(tokens, s)
		}
	}
	for _, c := range letters {
		add(string(c))
	}
	list := [][2]string{}
	for range merges {
		p := [2]string{tokens[rng.IntN(len(tokens))], tokens[rng.IntN(len(tokens))]}
		add(p[0] + p[1])
		list = append(list, p)
	}
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return map[string]any{"type": "BPE", "vocab": vocab, "merges": list}
}

// naive is BPE as in the paper: apply the leftmost merge of lowest rank until none applies.
func naive(m *model, s string) (ids []int32) {
	for _, c := range s {
		if id, ok := m.chars[c]; ok {
			ids = append(ids, id)
		}
	}
	for {
		at, best := -1, pairValue{rank: noRank}
		for i := 0; i+1 < len(ids); i++ {
			if v, ok := m.merges.get(ids[i], ids[i+1]); ok && v.rank < best.rank {
				at, best = i, v
			}
		}
		if at < 0 {
			return ids
		}
		ids = slices.Replace(ids, at, at+2, best.id)
	}
}

// TestMergeOrder compares both merge algorithms, and splitting at joints, with the naive
// algorithm.
func TestMergeOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 300 {
		letters := "abcdefgh"[:2+rng.IntN(7)]
		file := map[string]any{"model": randomModel(rng, letters, rng.IntN(40))}
		tok, err := Parse("random", mustJSON(file))
		if err != nil {
			t.Fatal(err)
		}
		c := newCoders(tok.model, false).get()
		for range 20 {
			var b strings.Builder
			for range rng.IntN(200) {
				b.WriteByte((letters + "x")[rng.IntN(len(letters)+1)]) // x is dropped
			}
			s := b.String()
			want := naive(tok.model, s)
			if got := tok.Encode(s, false).IDs; !slices.Equal(got, want) {
				t.Fatalf("round %d: Encode(%q) = %v, want %v", round, s, got, want)
			}
			for name, merge := range map[string]func(){"scanning": c.mergeScanning, "heap": c.mergeHeap} {
				c.symbols = c.symbols[:0]
				if c.split(s); len(c.symbols) == 0 {
					continue
				}
				merge()
				var got []int32
				for i := int32(0); i >= 0; i = c.symbols[i].next {
					got = append(got, c.symbols[i].id)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("round %d: %s merges %q to %v, want %v", round, name, s, got, want)
				}
			}
		}
	}
}

// TestLongWords encodes long words with merges everywhere, for which a quadratic algorithm
// would take minutes.
func TestLongWords(t *testing.T) {
	f := loadFixtures(t)
	n := 1 << 18
	for _, g := range f.golden {
		switch g.Name {
		case "gpt2-whole", "llama2", "stories", "llama3", "flags", "metaspace-first", "unk-fused":
		default:
			continue
		}
		for _, unit := range []string{"a", " ", "the ", "\n", "ab", "é", "😀", "[", "  [R] "} {
			text := strings.Repeat(unit, n/len(unit))
			e := g.tokenizer.Encode(text, false)
			sum := 0
			for _, b := range e.Bytes {
				sum += int(b)
			}
			if sum != len(text) {
				t.Errorf("%s: %q repeated: tokens cover %d bytes of %d", g.Name, unit, sum, len(text))
			}
		}
	}
}

// TestAddedTokenSearch encodes text in which tokens nearly match everywhere.
func TestAddedTokenSearch(t *testing.T) {
	long := strings.Repeat("a", 1<<16) + "b"
	file := map[string]any{
		"model": map[string]any{"type": "BPE", "vocab": map[string]int{"a": 0, "b": 1}, "merges": []string{}},
		"added_tokens": []any{map[string]any{
			"id": 2, "content": long, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
		}},
	}
	tok, err := Parse("long", mustJSON(file))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("a", 1<<20) + long
	if ids := tok.Encode(text, false).IDs; len(ids) != 1<<20+1 || ids[1<<20] != 2 {
		t.Errorf("%d ids, the last %d", len(ids), ids[len(ids)-1])
	}
}

// TestMatcher compares the automaton with a search for every token at every position.
func TestMatcher(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	word := func(n int) string {
		var b strings.Builder
		for range 1 + rng.IntN(n) {
			b.WriteByte("abc"[rng.IntN(3)])
		}
		return b.String()
	}
	for range 2000 {
		set := map[string]bool{}
		for range 1 + rng.IntN(6) {
			set[word(6)] = true
		}
		var texts []string
		var tokens []*addedToken
		for s := range set {
			texts = append(texts, s)
			tokens = append(tokens, &addedToken{content: s})
		}
		m := newMatcher(tokens, texts)
		s := word(40)
		var got, want []string
		for i := 0; ; {
			start, end, a := m.find(s, i)
			if a == nil {
				break
			}
			got = append(got, fmt.Sprint(start, " ", a.content))
			i = end
		}
		for i := 0; i < len(s); {
			best := ""
			for x := range set {
				if len(x) > len(best) && strings.HasPrefix(s[i:], x) {
					best = x
				}
			}
			if best != "" {
				want = append(want, fmt.Sprint(i, " ", best))
			}
			i += max(1, len(best))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q in %q: %q, want %q", texts, s, got, want)
		}
	}
}

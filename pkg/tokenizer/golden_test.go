package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// golden is a tokenizer with the results of the official library for some texts; see
// scripts/make_tokenizer_fixtures.py.
type golden struct {
	Name, Vocabulary string
	Model, Parts     map[string]json.RawMessage
	Before, After    []int32
	Step             int               // uses every Step-th text
	IDs              [][]int32         // without special tokens of the post-processor
	Decoded          map[string]string // by text; absent if equal to the text
	Skipped          map[string]string // without special tokens; absent if equal to Decoded
	tokenizer        *Tokenizer
	file             []byte
}

type vocabulary struct {
	Vocab  []string    `json:"vocab"`
	Merges [][2]string `json:"merges"`
}

func readTestdata(t testing.TB, name string, v any) {
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(name, err)
	}
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// assemble assembles a tokenizer.json in the same way as the script.
func assemble(v vocabulary, options, parts map[string]json.RawMessage) []byte {
	ids := map[string]int{}
	for i, s := range v.Vocab {
		ids[s] = i
	}
	model := map[string]any{"type": "BPE", "vocab": ids}
	for k, o := range options {
		model[k] = o
	}
	if string(options["merges"]) == `"lines"` {
		var lines []string
		for _, m := range v.Merges {
			lines = append(lines, m[0]+" "+m[1])
		}
		model["merges"] = lines
	} else {
		model["merges"] = v.Merges
	}
	file := map[string]any{"version": "1.0", "model": model}
	for k, p := range parts {
		file[k] = p
	}
	return mustJSON(file)
}

type fixtures struct {
	texts  []string
	vocabs map[string]vocabulary
	golden []*golden
}

var fixturesOnce = sync.OnceValue(func() *fixtures { return new(fixtures) })

// loadFixtures reads testdata once.
func loadFixtures(t testing.TB) *fixtures {
	f := fixturesOnce()
	if f.golden != nil {
		return f
	}
	readTestdata(t, "texts.json", &f.texts)
	readTestdata(t, "vocabularies.json", &f.vocabs)
	readTestdata(t, "golden.json", &f.golden)
	for _, g := range f.golden {
		g.file = assemble(f.vocabs[g.Vocabulary], g.Model, g.Parts)
		var err error
		if g.tokenizer, err = Parse(g.Name, g.file); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// drops names the pipelines that omit text: the sum of their Bytes is smaller.
func (g *golden) drops() bool {
	switch g.Name {
	case "gpt2-gaps", "no-unk", "few-codes-dropped", "flags-first", "strip":
		return true
	}
	return strings.HasPrefix(g.Name, "split-Removed")
}

func TestGolden(t *testing.T) {
	f := loadFixtures(t)
	for _, g := range f.golden {
		t.Run(g.Name, func(t *testing.T) {
			n := 0
			for i := 0; i < len(f.texts); i += g.Step {
				text := f.texts[i]
				want := g.IDs[n]
				n++
				got := g.tokenizer.Encode(text, false)
				if !slices.Equal(got.IDs, want) {
					t.Errorf("Encode(%q)\n got %v %v\nwant %v %v", text,
						got.IDs, g.names(got.IDs), want, g.names(want))
					continue
				}
				full := g.tokenizer.Encode(text, true)
				if want := slices.Concat(g.Before, want, g.After); !slices.Equal(full.IDs, want) {
					t.Errorf("Encode(%q, true) = %v, want %v", text, full.IDs, want)
				}
				g.checkBytes(t, text, full)
				g.checkDecode(t, i, text, full.IDs)
			}
			if n != len(g.IDs) {
				t.Errorf("%d texts, %d golden", n, len(g.IDs))
			}
			bos, ok := g.tokenizer.BOS()
			if ok != (len(g.Before) > 0) || ok && bos != g.Before[0] {
				t.Errorf("BOS = %d, %v; the library puts %v", bos, ok, g.Before)
			}
		})
	}
}

func (g *golden) names(ids []int32) (names []string) {
	for _, id := range ids {
		s, _ := g.tokenizer.Token(id)
		names = append(names, s)
	}
	return names
}

func (g *golden) checkBytes(t *testing.T, text string, e Encoding) {
	t.Helper()
	if len(e.Bytes) != len(e.IDs) {
		t.Fatalf("%q: %d ids, %d byte counts", text, len(e.IDs), len(e.Bytes))
	}
	sum := 0
	for i, n := range e.Bytes {
		if n < 0 || n > 0 && (i < len(g.Before) || i >= len(e.Bytes)-len(g.After)) {
			t.Errorf("%q: token %d covers %d bytes", text, i, n)
		}
		sum += int(n)
	}
	if sum > len(text) || sum < len(text) && !g.drops() {
		t.Errorf("%q: tokens %q cover %v bytes, %d in total, of %d", text, g.names(e.IDs), e.Bytes, sum, len(text))
	}
}

func (g *golden) checkDecode(t *testing.T, i int, text string, ids []int32) {
	t.Helper()
	_, hasDecoder := g.Parts["decoder"]
	if g.Step > 1 && !hasDecoder {
		return // not stored
	}
	want, ok := g.Decoded[strconv.Itoa(i)]
	if !ok {
		want = text
	}
	if got := g.tokenizer.Decode(ids, false); got != want {
		t.Errorf("Decode of %q (%q) = %q, want %q", text, g.names(ids), got, want)
	}
	if s, ok := g.Skipped[strconv.Itoa(i)]; ok {
		want = s
	}
	if got := g.tokenizer.Decode(ids, true); got != want {
		t.Errorf("Decode of %q without special tokens = %q, want %q", text, got, want)
	}
}

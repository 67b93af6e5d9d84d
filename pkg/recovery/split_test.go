package recovery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// stories returns documents of random ids, of 60 to 140 tokens.
func stories(n int, seed uint64) (out [][]int32) {
	rng := rand.New(rand.NewPCG(seed, 5))
	for range n {
		out = append(out, randomIDs(rng, 60+rng.IntN(80)))
	}
	return out
}

func randomIDs(rng *rand.Rand, n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(rng.IntN(2000))
	}
	return ids
}

func mustSplit(t *testing.T, documents [][]int32, seed int64, tokens, seqLen int) *split {
	t.Helper()
	s, _, err := splitDocuments(documents, splitOptions{file: "data", seed: seed, tokens: tokens, seqLen: seqLen})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func total(documents [][]int32) (n int) {
	for _, d := range documents {
		n += len(d)
	}
	return n
}

// texts returns documents as a sorted list.
func texts(documents [][]int32) (out []string) {
	for _, d := range documents {
		out = append(out, fmt.Sprint(d))
	}
	slices.Sort(out)
	return out
}

// longestShared returns the length of the longest run of tokens that occurs in a document of
// both sets.
func longestShared(a, b [][]int32) (most int) {
	type end struct{ document, at int }
	at := map[int32][]end{}
	for i, d := range b {
		for j, id := range d {
			at[id] = append(at[id], end{i, j})
		}
	}
	for _, d := range a {
		before := map[end]int{} // the length of the run that ends at each place of b
		for _, id := range d {
			now := map[end]int{}
			for _, e := range at[id] {
				n := before[end{e.document, e.at - 1}] + 1
				now[e] = n
				most = max(most, n)
			}
			before = now
		}
	}
	return most
}

// Equal documents are on one side: the file that lists its documents twice, in whatever
// order, holds out the same text as the file that lists them once.
func TestSplitOfRepeatedDocuments(t *testing.T) {
	once := stories(200, 1)
	want := mustSplit(t, once, 3, 1000, 64)
	if total(want.validation) < 1000 || total(want.test) < 1000 || total(want.train) < 10000 || want.excluded != 0 {
		t.Fatalf("%d, %d and %d tokens, %d excluded", total(want.train), total(want.validation), total(want.test), want.excluded)
	}
	twice := slices.Concat(once, once)
	for range 3 {
		got := mustSplit(t, twice, 3, 1000, 64)
		if !slices.Equal(texts(got.validation), texts(want.validation)) || !slices.Equal(texts(got.test), texts(want.test)) {
			t.Fatal("other text is held out")
		}
		for _, held := range [][][]int32{got.validation, got.test} {
			if n := longestShared(got.train, held); n >= shingleTokens {
				t.Errorf("training and held-out text share %d tokens", n)
			}
		}
		if n := total(got.train); n != 2*total(want.train) {
			t.Errorf("%d tokens to train on, want %d twice", n, total(want.train))
		}
		rand.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
	}
	if other := mustSplit(t, once, 4, 1000, 64); slices.Equal(texts(other.test), texts(want.test)) {
		t.Error("another seed holds out the same text")
	}
}

// A document that differs in a few words, contains a held-out one, or is an excerpt of one,
// is not trained on.
func TestSplitOfNearDuplicates(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	once := stories(200, 2)
	for name, change := range map[string]func(d []int32) []int32{
		"a word in 16":        func(d []int32) []int32 { return edited(rng, d, 16) },
		"a sentence appended": func(d []int32) []int32 { return append(d, randomIDs(rng, 30)...) },
		"without its start":   func(d []int32) []int32 { return d[len(d)/3:] },
		"in a long document":  func(d []int32) []int32 { return slices.Concat(randomIDs(rng, 300), d, randomIDs(rng, 300)) },
		"half an excerpt":     func(d []int32) []int32 { return append(slices.Clone(d[:len(d)/2]), randomIDs(rng, len(d)/2)...) },
	} {
		both := slices.Clone(once)
		for _, d := range once {
			both = append(both, change(slices.Clone(d)))
		}
		s := mustSplit(t, both, 1, 1000, 64)
		var x shingleIndex
		for _, held := range [][][]int32{s.validation, s.test} {
			// What is left is too short to tell one text by: both halves of a run of 2·16.
			if n := longestShared(s.train, held); n >= 40 {
				t.Errorf("%s: training and held-out text share %d tokens", name, n)
			}
			for _, d := range held {
				x.add(d)
			}
		}
		for _, d := range s.train {
			if x.near(d) {
				t.Errorf("%s: a near duplicate of held-out text is trained on", name)
			}
		}
		if n := longestShared(s.validation, s.test); n >= 40 {
			t.Errorf("%s: validation and test text share %d tokens", name, n)
		}
		if s.excluded == 0 || total(s.train) < total(once)/2 {
			t.Errorf("%s: %d tokens to train on, %d excluded", name, total(s.train), s.excluded)
		}
	}
}

// A text that contains itself again, at an offset that moves the copy against the blocks, is
// not on both sides.
func TestSplitOfShiftedCopies(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 4))
	d := randomIDs(rng, 200000)
	for _, off := range []int{2000, 700, 3300} {
		s := mustSplit(t, [][]int32{slices.Concat(d, d[len(d)-off:], d)}, 0, 0, 256)
		for name, held := range map[string][][]int32{"validation": s.validation, "test": s.test} {
			if share := sharedShingles(held, s.train); share >= 0.01 {
				t.Errorf("offset %d: training text has %.1f %% of the shingles of the %s text", off, 100*share, name)
			}
		}
		if share := sharedShingles(s.test, s.validation); share >= 0.01 {
			t.Errorf("offset %d: validation text has %.1f %% of the shingles of the test text", off, 100*share)
		}
		if n := total(s.train); n < len(d)*3/4 {
			t.Errorf("offset %d: only %d tokens to train on", off, n)
		}
	}
}

// sharedShingles returns the share of the runs of 8 ids of the first texts that occur in the
// second.
func sharedShingles(of, in [][]int32) float64 {
	there := map[[8]int32]bool{}
	for _, d := range in {
		for i := range len(d) - 7 {
			there[[8]int32(d[i:])] = true
		}
	}
	n, found := 0, 0
	for _, d := range of {
		for i := range len(d) - 7 {
			n++
			if there[[8]int32(d[i:])] {
				found++
			}
		}
	}
	return float64(found) / float64(n)
}

// A document that quotes a passage of a held-out one, too short for a near duplicate, is not
// trained on, and the order of the documents does not matter.
func TestSplitOfQuotedPassages(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	var documents [][]int32
	for range 200 {
		d := randomIDs(rng, 400)
		documents = append(documents, d, slices.Concat(randomIDs(rng, 200), d[100:150], randomIDs(rng, 200)))
	}
	want := mustSplit(t, documents, 5, 4000, 64)
	for _, held := range [][][]int32{want.validation, want.test} {
		if n := longestShared(want.train, held); n >= runTokens+copiedRuns-1 {
			t.Errorf("training and held-out text share %d tokens", n)
		}
	}
	if n := longestShared(want.validation, want.test); n >= runTokens+copiedRuns-1 {
		t.Errorf("validation and test text share %d tokens", n)
	}
	if want.excluded == 0 || want.excluded > total(want.validation)+total(want.test)+1000 {
		t.Errorf("%d tokens excluded", want.excluded)
	}
	rand.Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
	got := mustSplit(t, documents, 5, 4000, 64)
	if !slices.Equal(texts(got.train), texts(want.train)) || !slices.Equal(texts(got.validation), texts(want.validation)) || !slices.Equal(texts(got.test), texts(want.test)) {
		t.Error("the order of the documents changes the split")
	}
}

// A template that many documents begin with makes none a copy of another.
func TestSplitOfTemplates(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	template := randomIDs(rng, 60)
	var documents [][]int32
	for range 200 {
		documents = append(documents, slices.Concat(template, randomIDs(rng, 300)))
	}
	if s := mustSplit(t, documents, 1, 4000, 64); s.excluded != 0 {
		t.Errorf("%d tokens excluded", s.excluded)
	}
}

// edited replaces one token in so many.
func edited(rng *rand.Rand, d []int32, every int) []int32 {
	for i := rng.IntN(every); i < len(d); i += every {
		d[i] = int32(rng.IntN(2000))
	}
	return d
}

// One long text is held out in contiguous blocks, with a gap to what is trained on.
func TestSplitOfOneText(t *testing.T) {
	text := make([]int32, 50000)
	for i := range text {
		text[i] = int32(i) // so that a token says where it is from
	}
	const seqLen, tokens = 64, 4000
	s := mustSplit(t, [][]int32{text}, 7, tokens, seqLen)
	use := make([]byte, len(text))
	for kind, part := range map[byte][][]int32{'t': s.train, 'v': s.validation, 'x': s.test} {
		for _, d := range part {
			for i, id := range d {
				if int(id) != int(d[0])+i {
					t.Fatalf("%c: a document is not contiguous at %d", kind, i)
				}
				if use[id] != 0 {
					t.Fatalf("token %d is both %c and %c", id, use[id], kind)
				}
				use[id] = kind
			}
		}
	}
	if len(s.validation) != heldOutBlocks || len(s.test) != heldOutBlocks {
		t.Errorf("%d and %d blocks", len(s.validation), len(s.test))
	}
	last, at, changes := byte(0), 0, 0
	for i, u := range use {
		if u == 0 {
			continue
		}
		if last != 0 && u != last {
			changes++
			if i-at <= seqLen && (u == 't' || last == 't') {
				t.Errorf("%c at %d follows %c at %d", u, i, last, at)
			}
			if u != 't' && last != 't' && i-at == 1 {
				t.Errorf("validation and test text meet at %d", i)
			}
		}
		last, at = u, i
	}
	if changes < 4 {
		t.Errorf("%d changes of use", changes)
	}
	if n := total(s.train) + total(s.validation) + total(s.test) + s.excluded; n != len(text) {
		t.Errorf("%d tokens in all", n)
	}
	if total(s.train) < 35000 {
		t.Errorf("only %d tokens to train on", total(s.train))
	}
	// A chapter that the text repeats, at another offset, is not on both sides.
	repeated := slices.Concat(text, []int32{9, 9, 9}, text[:30000])
	s = mustSplit(t, [][]int32{repeated}, 7, tokens, seqLen)
	for _, held := range [][][]int32{s.validation, s.test} {
		if n := longestShared(s.train, held); n > 4000/heldOutBlocks/2 {
			t.Errorf("training and held-out text share %d tokens in a row", n)
		}
	}
}

// What the model was trained on before is not held out.
func TestSplitOfKnownText(t *testing.T) {
	documents := stories(100, 6)
	known := map[string]bool{}
	for _, d := range documents[:60] {
		known[fmt.Sprint(d)] = true
	}
	s, _, err := splitDocuments(documents, splitOptions{seed: 2, tokens: 1000, seqLen: 64, known: func(ids []int32) bool { return known[fmt.Sprint(ids)] }})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range slices.Concat(s.validation, s.test) {
		if known[fmt.Sprint(d)] {
			t.Error("a known document is held out")
		}
	}
	if total(s.validation) < 1000 || total(s.test) < 1000 {
		t.Errorf("%d and %d tokens", total(s.validation), total(s.test))
	}
}

// Too little text is an error that says how much is needed.
func TestSplitOfLittleText(t *testing.T) {
	for name, c := range map[string]struct {
		documents [][]int32
		tokens    int
		part      string
	}{
		"default":         {stories(9, 1), 0, "at least 1280 are needed"},
		"asked":           {stories(10, 1), 400, "takes at least 1600"},
		"one, repeated":   {slices.Repeat(stories(1, 1), 100), 0, "at least 1280 are needed"},
		"nearly the same": {nearlySame(40), 0, "can be held out for test"},
	} {
		_, _, err := splitDocuments(c.documents, splitOptions{file: "few.jsonl", tokens: c.tokens, seqLen: 16})
		wantFault(t, err, fault.Input, "few.jsonl", c.part)
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line", name)
		}
	}
	s, tokens, err := splitDocuments(stories(14, 1), splitOptions{file: "data", seqLen: 16})
	if err != nil || tokens < minHeldOut || tokens > total(s.train)/4 {
		t.Errorf("%d tokens held out, %v", tokens, err)
	}
}

func nearlySame(n int) (out [][]int32) {
	rng := rand.New(rand.NewPCG(3, 3))
	first := randomIDs(rng, 100)
	for range n {
		out = append(out, edited(rng, slices.Clone(first), 25))
	}
	return out
}

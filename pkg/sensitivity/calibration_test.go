package sensitivity

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/eval"
	"afmq/pkg/infer"
)

func TestCalibration(t *testing.T) {
	pool := newPool(t, 1)
	m, err := infer.Open(bg, tinyModel, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	read := func(o CalibrationOptions) *Calibration {
		t.Helper()
		c, err := ReadCalibration(o, m.Tokenizer, m.Config)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	file := textFile(t, "a.txt", story)
	whole, err := eval.ReadCorpus(file, m.Tokenizer, m.Config.Separator())
	if err != nil {
		t.Fatal(err)
	}
	all := read(CalibrationOptions{Files: []string{file}, SeqLen: 50, Tokens: 1 << 20})
	if len(all.Sequences) != len(whole.IDs)/50 {
		t.Fatalf("%d sequences of %d tokens", len(all.Sequences), len(whole.IDs))
	}
	for i, s := range all.Sequences {
		if !slices.Equal(s, whole.IDs[50*i:50*i+50]) {
			t.Fatalf("sequence %d is not where it was in the text", i)
		}
	}
	some := read(CalibrationOptions{Files: []string{file}, SeqLen: 50, Tokens: 249})
	if len(some.Sequences) != 4 || some.Tokens() != 200 {
		t.Fatalf("%d sequences, %d tokens for a budget of 249", len(some.Sequences), some.Tokens())
	}
	at := -1
	for _, s := range some.Sequences { // a selection, in order, without repetition
		i := slices.IndexFunc(all.Sequences, func(x []int32) bool { return &x[0] == &s[0] || slices.Equal(x, s) })
		if i <= at && !slices.Equal(all.Sequences[at], s) {
			t.Errorf("sequence %d after %d", i, at)
		}
		at = i
	}
	again := read(CalibrationOptions{Files: []string{file}, SeqLen: 50, Tokens: 249})
	other := read(CalibrationOptions{Files: []string{file}, SeqLen: 50, Tokens: 249, Seed: 5})
	if !reflect.DeepEqual(some.Record, again.Record) || some.Record.Digest == other.Record.Digest {
		t.Errorf("digests %s, again %s, other seed %s", some.Record.Digest, again.Record.Digest, other.Record.Digest)
	}
	short := read(CalibrationOptions{Files: []string{textFile(t, "b.jsonl", `{"text":"The captain"}`+"\n"+`{"text":"the sea"}`)}, SeqLen: 64})
	if len(short.Sequences) != 1 || short.Tokens() < 4 || short.Tokens() > 20 {
		t.Errorf("a short text: %d sequences, %d tokens", len(short.Sequences), short.Tokens())
	}
	two := read(CalibrationOptions{Files: []string{file, textFile(t, "c.txt", "Another text.")}, SeqLen: 32, Tokens: 1 << 20})
	if len(two.Record.Files) != 2 {
		t.Errorf("files %v", two.Record.Files)
	}
	// Every passage of the text that was used is found in it, none in another text.
	if n := all.Record.Overlap(whole.IDs); n == 0 || n > len(all.Record.Passages) {
		t.Errorf("%d of %d passages in the text itself", n, len(all.Record.Passages))
	}
	elsewhere, err := eval.EncodeTexts("x", []string{strings.Repeat("It rained all day in the town, and nobody came. ", 40)}, m.Tokenizer, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := all.Record.Overlap(elsewhere.IDs); n != 0 {
		t.Errorf("%d passages in another text", n)
	}
}

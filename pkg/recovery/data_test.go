package recovery

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

func dataOf(t testing.TB, pool *compute.Pool, o *Options, m *infer.Model) *corpus {
	t.Helper()
	c := *o
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	d, err := readData(bg, pool, &c, m.Tokenizer, m.Config, nil)
	if err != nil {
		t.Fatal(err)
	}
	*o = c
	return d
}

// TestDataFiles checks that a text, its lines as JSON and its tokens are the same data
// where they should be, and that the split and the order hold what they promise.
func TestDataFiles(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	m, err := infer.Open(bg, b.model, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	o := b.options(t)
	d := dataOf(t, pool, &o, m)
	held, total := 0, d.trainTokens()
	for _, s := range d.validation {
		held += len(s) - 1
	}
	if held < 150 || held > 200 || total < 1000 {
		t.Fatalf("%d tokens held out, %d to train on", held, total)
	}
	// Every pass shows the same tokens in another order.
	n := int64((len(d.join(d.train)) - 1) / o.SeqLen)
	count := func(epoch int64) map[int32]int {
		c := map[int32]int{}
		for i := range n {
			for _, id := range d.sequence(epoch*n + i)[:o.SeqLen] {
				c[id]++
			}
		}
		return c
	}
	first := d.sequence(0)
	again := append([]int32(nil), first...)
	a, z := count(0), count(1)
	differ := 0
	for id, k := range a {
		if z[id] != k {
			differ++
		}
	}
	if differ > 2*(o.SeqLen+1) { // at its end a pass leaves out what fills no sequence
		t.Errorf("two passes differ in %d tokens", differ)
	}
	second := d.sequence(n)
	if strings.Join(strings.Fields(string(runes(second))), "") == strings.Join(strings.Fields(string(runes(again))), "") {
		t.Error("the second pass begins as the first")
	}
	for i, id := range d.sequence(0) {
		if id != again[i] {
			t.Fatal("the first sequence changed")
		}
	}

	// A file that lists its documents twice holds out the same text.
	lines, err := os.ReadFile(b.text)
	if err != nil {
		t.Fatal(err)
	}
	twice := b.options(t)
	twice.Data = []string{filepath.Join(t.TempDir(), "twice.jsonl")}
	if err := os.WriteFile(twice.Data[0], append(lines, lines...), 0o666); err != nil {
		t.Fatal(err)
	}
	again2 := dataOf(t, pool, &twice, m)
	if fmt.Sprint(again2.validation, again2.test) != fmt.Sprint(d.validation, d.test) {
		t.Error("a file that lists its documents twice holds out other text")
	}

	// Tokens, divided at the separators, are the documents.
	ids := d.join(append([][]int32(nil), d.train...))
	path := filepath.Join(t.TempDir(), "tokens.safetensors")
	writeTokens(t, path, safetensors.U16, ids)
	docs, _, err := d.readFile(bg, pool, path, m.Tokenizer, m.Config, progress.Silent)
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != len(d.train) {
		t.Fatalf("%d documents, want %d", len(docs), len(d.train))
	}
	for i := range docs {
		if string(runes(docs[i])) != string(runes(d.train[i])) {
			t.Fatalf("document %d differs", i)
		}
	}
	writeTokens(t, path, safetensors.I32, []int32{1, 2, -1})
	_, _, err = d.readFile(bg, pool, path, m.Tokenizer, m.Config, progress.Silent)
	wantFault(t, err, fault.Input, "index 2")
}

func runes(ids []int32) []rune { return []rune(string(ids)) }

func writeTokens(t testing.TB, path string, dtype safetensors.DType, ids []int32) {
	t.Helper()
	w, err := safetensors.Create(path, []safetensors.Info{{Name: tokensTensor, DType: dtype, Shape: []int{len(ids)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for _, id := range ids {
		data = append(data, byte(id), byte(id>>8))
		if dtype == safetensors.I32 {
			data = append(data, byte(id>>16), byte(id>>24))
		}
	}
	if err := w.Append(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

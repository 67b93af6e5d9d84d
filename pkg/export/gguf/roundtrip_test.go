package gguf

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
	"afmq/pkg/tokenizer"
)

// The engine computes from the file of every family what it computes from the checkpoint, whose
// logits agree with transformers.
func TestReadBack(t *testing.T) {
	for _, name := range exporttest.Names(t) {
		t.Run(name, func(t *testing.T) {
			dir := exporttest.Copy(t, name)
			opts := Options{Artifact: kept(t, dir), As: "f32"}
			if c, refused := contexts[name]; refused {
				if opts.Context = c.context; c.context == 0 {
					t.Skip("llama.cpp cannot express it")
				}
			}
			f, _ := open(t, opts)
			got, err := infer.Open(bg, f.Path(), infer.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want, err := infer.Open(bg, opts.Artifact, infer.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Config.RMSNormEps != want.Config.RMSNormEps || got.Config.Rope.Theta != want.Config.Rope.Theta {
				t.Errorf("epsilon %v and base %v; expected %v and %v", got.Config.RMSNormEps, got.Config.Rope.Theta, want.Config.RMSNormEps, want.Config.Rope.Theta)
			}
			// The artifact has an embedding in 8 bits with a scale, the file has the products. The
			// factors of the rotary embedding are in single precision there.
			limit := 1e-6
			if kind := want.Config.Rope.Type; kind != "default" && kind != "dynamic" {
				limit = 1e-5
			}
			n := min(40, got.Config.MaxPositions)
			if d := difference(logits(got, n), logits(want, n)); d > limit {
				t.Errorf("logits differ by %g of the largest", d)
			}
		})
	}
}

// The engine computes the same bits from an artifact in blocks of ggml and from its file.
func TestReadBackBlocks(t *testing.T) {
	q := exporttest.Quantize(t, quantize.Options{Model: "../../../internal/demo/model", Form: "q4_k", Overrides: []sensitivity.Override{{Pattern: "o_proj", Form: "q8_0"}}})
	f, _ := open(t, Options{Artifact: q})
	got, err := infer.Open(bg, f.Path(), infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := infer.Open(bg, q, infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := logits(got, 40), logits(want, 40); !slices.Equal(a, b) {
		t.Errorf("logits differ by %g of the largest", difference(a, b))
	}
}

// A file is compared with the artifact that it was made from as an artifact is: rows of q and k in
// the order of the checkpoint, blocks byte for byte.
func TestDiff(t *testing.T) {
	for name, opts := range map[string]quantize.Options{
		"blocks": {Model: "../../../internal/demo/model", Form: "q4_k"},
		"llama":  {Model: exporttest.Copy(t, "llama2-f32"), Form: "q8_0", Overrides: []sensitivity.Override{{Pattern: ".", Bits: 16}}},
		"biases": {Model: exporttest.Copy(t, "llama-biases"), Form: "q8_0", Overrides: []sensitivity.Override{{Pattern: ".", Bits: 16}}},
	} {
		q := exporttest.Quantize(t, opts)
		f, _ := open(t, Options{Artifact: q})
		d, err := artifact.Diff(bg, q, f.Path(), artifact.DiffOptions{Reference: opts.Model})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range d.Layers {
			if !l.Same || *l.WeightDistance != 0 || l.A.Form != l.B.Form || l.A.Bits != l.B.Bits || *l.A.RelError != *l.B.RelError {
				t.Errorf("%s: %+v", name, l)
			}
		}
		for _, l := range d.Vectors {
			if *l.WeightDistance != 0 || l.B.Bits != 32 {
				t.Errorf("%s: %+v", name, l)
			}
		}
		if d.B.Kind != "gguf" || d.B.Bytes != f.Bytes() || d.Same || d.IsSource != nil || len(d.Files) != 0 || d.A.BPW.Projections != d.B.BPW.Projections {
			t.Errorf("%s: %+v", name, d.B)
		}
		if same, err := artifact.Diff(bg, f.Path(), f.Path(), artifact.DiffOptions{}); err != nil || !same.Same {
			t.Errorf("%s: a file differs from itself: %+v, %v", name, same, err)
		}
		other, _ := open(t, Options{Artifact: q, Name: "other"})
		d, err = artifact.Diff(bg, f.Path(), other.Path(), artifact.DiffOptions{})
		if err != nil || d.Same || !d.SameContent || len(d.Provenance) != 1 || d.Provenance[0].Key != "general.name" || d.Provenance[0].B != "other" {
			t.Errorf("%s: files of two names: %+v, %v", name, d, err)
		}
		_, err = artifact.Diff(bg, q, q, artifact.DiffOptions{Reference: f.Path()})
		if quantized := name == "blocks"; (fault.KindOf(err) == fault.Usage) != quantized {
			t.Errorf("%s: the file as reference: %v", name, err)
		}
	}
}

// logits returns the logits of n tokens, in f32.
func logits(m *infer.Model, n int) []float32 {
	r, vocab := m.NewRunner(compute.NewPool(1)), m.Config.VocabSize
	var ids []int32
	for i := range n {
		ids = append(ids, int32((i*i+3)%vocab))
	}
	hidden := r.Forward([]infer.Segment{{Cache: m.NewCache(n), Tokens: ids}})
	out := make([]float32, n*vocab)
	r.Logits(out, hidden, n)
	return out
}

// difference returns the largest difference relative to the largest value.
func difference(a, b []float32) float64 {
	var most, largest float64
	for i := range a {
		most = max(most, math.Abs(float64(a[i]-b[i])))
		largest = max(largest, math.Abs(float64(b[i])))
	}
	return most / largest
}

// golden is a tokenizer of pkg/tokenizer/testdata.
type golden struct {
	Name, Vocabulary string
	Model, Parts     object
}

// vocabularyData is its vocabulary.
type vocabularyData struct {
	Vocab  []string
	Merges [][2]string
}

func testdata(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../tokenizer/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// made removes from a vocabulary what merges do not make: those of the test data were cut.
func (v vocabularyData) made() vocabularyData {
	has := map[string]bool{}
	for _, s := range v.Vocab {
		has[s] = len([]rune(s)) == 1
	}
	for range v.Vocab {
		before := len(has)
		for _, m := range v.Merges {
			if has[m[0]] && has[m[1]] {
				has[m[0]+m[1]] = true
			}
		}
		if len(has) == before && !slices.ContainsFunc(v.Merges, func(m [2]string) bool { return has[m[0]] && has[m[1]] && !has[m[0]+m[1]] }) {
			break
		}
	}
	var out vocabularyData
	for i, s := range v.Vocab {
		if !has[s] && !strings.HasPrefix(s, "<") {
			s = string(rune(0xE000 + i))
		}
		out.Vocab = append(out.Vocab, s)
	}
	for _, m := range v.Merges {
		if has[m[0]] && has[m[1]] {
			out.Merges = append(out.Merges, m)
		}
	}
	return out
}

// A text has the same tokens with the tokenizer that is read from the file as with tokenizer.json,
// except where a note says so.
func TestReadBackTokenizers(t *testing.T) {
	var all []golden
	var vocabularies map[string]vocabularyData
	var texts []string
	testdata(t, "golden.json", &all)
	testdata(t, "vocabularies.json", &vocabularies)
	testdata(t, "texts.json", &texts)
	for _, g := range slices.Clone(all) {
		if g.Name == "llama3" || g.Name == "o200k" { // without ignore_merges
			all = append(all, golden{g.Name + " merging", g.Vocabulary, object{}, g.Parts})
		}
	}
	pre := map[string]bool{}
	for _, g := range all {
		data := vocabularies[g.Vocabulary]
		if !slices.Contains(data.Vocab, "Ġ") {
			data = data.made()
		}
		bpe := object{"type": "BPE", "vocab": numbered(data.Vocab), "merges": data.Merges}
		for k, o := range g.Model {
			if k != "merges" {
				bpe[k] = o
			}
		}
		f := object{"version": "1.0", "model": bpe}
		for k, p := range g.Parts {
			f[k] = p
		}
		raw, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		own, err := tokenizer.Parse(g.Name, raw)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		exporttest.Write(t, filepath.Join(dir, "tokenizer.json"), raw)
		v, err := readVocabulary(dir, &model.Config{VocabSize: int(own.MaxID()) + 5})
		if err != nil {
			continue // vocabulary_test.go has what is refused
		}
		pre[v.model+" "+v.pre] = true
		read := readBack(t, v)
		notes := strings.Join(v.notes, "\n")
		decoder := fmt.Sprint(g.Parts["decoder"])
		ordinary := strings.Contains(decoder, "ByteLevel") || strings.Contains(decoder, "ByteFallback") && strings.Contains(decoder, "Strip")
		compared := 0
		for _, text := range texts {
			special := slices.ContainsFunc(v.d.Added, func(a tokenizer.AddedToken) bool { return strings.Contains(text, a.Content) })
			switch {
			case strings.Contains(notes, "NFC") && !norm.NFC.IsNormalString(text):
			case strings.Contains(notes, "adds a space") && (special || strings.HasPrefix(text, " ") || strings.HasPrefix(text, "▁")):
			case strings.Contains(notes, "no byte tokens") && slices.Contains(own.Encode(text, false).IDs, v.d.Unknown):
			case special && (strings.Contains(notes, "special token") || strings.Contains(notes, "added tokens")):
			default:
				compared++
				got, want := read.Encode(text, true), own.Encode(text, true)
				if !slices.Equal(got.IDs, want.IDs) || !slices.Equal(got.Bytes, want.Bytes) {
					t.Errorf("%s: %q has %v of %v bytes, expected %v of %v", g.Name, text, got.IDs, got.Bytes, want.IDs, want.Bytes)
				}
				ids := own.Encode(text, false).IDs
				if a, b := read.Decode(ids, true), own.Decode(ids, true); a != b && ordinary && !special {
					t.Errorf("%s: %q is decoded as %q, expected %q", g.Name, text, a, b)
				}
			}
		}
		if read.MaxID() != own.MaxID() {
			t.Errorf("%s: largest id %d, expected %d", g.Name, read.MaxID(), own.MaxID())
		}
		if compared < 100 {
			t.Errorf("%s: only %d of %d texts were compared", g.Name, compared, len(texts))
		}
	}
	for _, name := range []string{"gpt2 gpt-2", "gpt2 smollm", "gpt2 llama-bpe", "gpt2 dbrx", "gpt2 qwen2", "gpt2 gpt-4o", "gpt2 tekken", "llama default"} {
		if !pre[name] {
			t.Errorf("no tokenizer has the pre-tokenizer %s; there are %v", name, pre)
		}
	}
}

// readBack writes a vocabulary to a file and reads it.
func readBack(t *testing.T, v *vocabulary) *tokenizer.Tokenizer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v.gguf")
	w, err := file.Create(path, append([]file.KV{{Key: "general.architecture", Value: "llama"}}, v.keys...), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := file.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tok, err := (&ggufmodel.Model{File: f, Config: v.cfg}).Tokenizer()
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", v.path, err))
	}
	return tok
}

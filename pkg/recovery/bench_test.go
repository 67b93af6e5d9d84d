package recovery

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/quantize"
	"afmq/pkg/tokenizer"
)

// shared returns a file of the optional data directory, which AFMQ_SHARED names.
func shared(b *testing.B, name ...string) string {
	b.Helper()
	dir := os.Getenv("AFMQ_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(append([]string{dir}, name...)...)
	if _, err := os.Stat(path); err != nil {
		b.Skipf("needs the optional data directory: %v", err)
	}
	return path
}

// BenchmarkSplit divides each corpus, in the tokens of afm-mini, and reports which share of it
// is left out and the largest share of a training document's shingles that held-out text has.
func BenchmarkSplit(b *testing.B) {
	t, err := tokenizer.Load(shared(b, "models", "afm-mini", "tokenizer.json"))
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range []string{"train.jsonl", "calib.jsonl"} {
		b.Run(file, func(b *testing.B) {
			texts, _, err := eval.ReadTexts(shared(b, "corpora", file))
			if err != nil {
				b.Fatal(err)
			}
			documents, tokens := make([][]int32, len(texts)), 0
			for i, text := range texts {
				documents[i] = t.Encode(text, true).IDs
				tokens += len(documents[i])
			}
			var s *split
			for b.Loop() {
				if s, _, err = splitDocuments(documents, splitOptions{file: file, seqLen: 256}); err != nil {
					b.Fatal(err)
				}
			}
			var x shingleIndex
			for _, d := range slices.Concat(s.validation, s.test) {
				x.add(d)
			}
			largest := 0.0
			for _, d := range s.train {
				share, _ := x.shared(d)
				largest = max(largest, share)
			}
			b.ReportMetric(100*float64(s.excluded)/float64(tokens), "%excluded")
			b.ReportMetric(100*largest, "%shared")
		})
	}
}

// BenchmarkStep trains afm-mini's adapter of rank 16 for one step of 1,024 tokens in
// sequences of 256, teacher included.
func BenchmarkStep(b *testing.B) {
	model, data := shared(b, "models", "afm-mini"), shared(b, "corpora", "calib.jsonl")
	pool := compute.NewPool(0)
	defer pool.Close()
	dir := filepath.Join(b.TempDir(), "artifact")
	if _, err := quantize.Run(context.Background(), quantize.Options{Pool: pool, Model: model, Out: dir, Bits: 4, NoRowScale: true}); err != nil {
		b.Fatal(err)
	}
	o := Options{Artifact: dir, Teacher: model, Data: []string{data}, Out: filepath.Join(b.TempDir(), "out"), SeqLen: 256, Init: InitZero}
	if err := o.check(); err != nil {
		b.Fatal(err)
	}
	r := &run{pool: pool, opts: &o}
	if err := r.open(context.Background()); err != nil {
		b.Fatal(err)
	}
	t := newTrainer(pool, &o, r.data, r.base, r.teacher, r.students)
	if err := t.initialize(context.Background(), nil, true); err != nil {
		b.Fatal(err)
	}
	for _, s := range t.students {
		s.pack(pool, s.state().weights, o.stored())
	}
	for b.Loop() {
		if err := t.step(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(t.stepTokens())*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

// BenchmarkTuneStep trains all numbers of afm-mini in 2 bits for one step of 2,048 tokens in sequences
// of 256, teacher included.
func BenchmarkTuneStep(b *testing.B) {
	model, data := shared(b, "models", "afm-mini"), shared(b, "corpora", "calib.jsonl")
	pool := compute.NewPool(0)
	defer pool.Close()
	dir := filepath.Join(b.TempDir(), "artifact")
	if _, err := quantize.Run(context.Background(), quantize.Options{Pool: pool, Model: model, Out: dir, Bits: 2}); err != nil {
		b.Fatal(err)
	}
	opts := TuneOptions{Artifact: dir, Teacher: model, Data: []string{data}, Out: filepath.Join(b.TempDir(), "out"), SeqLen: 256}
	o, err := opts.options()
	if err != nil {
		b.Fatal(err)
	}
	r, err := openTuneRun(context.Background(), pool, &o, opts.Numbers)
	if err != nil {
		b.Fatal(err)
	}
	defer r.artifact.Close()
	t := r.trainer(context.Background())
	r.stored.pack(pool, r.stored.weights, 0)
	for b.Loop() {
		if err := t.step(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(t.stepTokens())*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

package recovery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"afmq/internal/demo"
	"afmq/pkg/adapter"
	"afmq/pkg/eval"
	"afmq/pkg/infer"
	"afmq/pkg/quantize"
	"afmq/pkg/recovery"
)

// Compress a model to 2 bits, train an adapter of rank 4 for a few steps, and evaluate the
// artifact with it on text that neither has seen.
func Example() {
	dir, err := os.MkdirTemp("", "recovery-example")
	check(err)
	defer os.RemoveAll(dir)
	teacher, artifact := filepath.Join(dir, "teacher"), filepath.Join(dir, "2bit")
	check(demo.Extract(teacher)) // a 16-bit checkpoint of 1.07 M parameters
	ctx := context.Background()
	_, err = quantize.Run(ctx, quantize.Options{Model: teacher, Out: artifact, Bits: 2, NoRowScale: true})
	check(err)
	reference, err := infer.Open(teacher, nil)
	check(err)
	train := filepath.Join(dir, "train.jsonl")
	check(os.WriteFile(train, sample(ctx, reference, 1), 0o666))

	result, err := recovery.Run(ctx, recovery.Options{
		Artifact: artifact, Teacher: teacher, Data: []string{train}, Out: filepath.Join(dir, "out"),
		Ranks: []int{4}, Tokens: 4096, SeqLen: 64, BatchTokens: 256, InitTokens: 1024,
	})
	check(err)
	best := result.Adapters[0]
	fmt.Println("test divergence recovered:", *best.Test.Recovered > 0.1)

	model, err := infer.Open(artifact, nil)
	check(err)
	trained, err := adapter.Open(filepath.Join(dir, "out", best.Path), artifact, model.Config, false)
	check(err)
	other := filepath.Join(dir, "other.jsonl")
	check(os.WriteFile(other, sample(ctx, reference, 2), 0o666))
	corpus, err := eval.ReadCorpus(other, model.Tokenizer, model.Config.Separator())
	check(err)
	fmt.Println("trained on this text:", trained.Overlap(corpus.SHA256, corpus.IDs).SameFile)
	without, err := eval.Run(ctx, nil, model, reference, corpus, eval.Options{Ctx: 64})
	check(err)
	with, err := eval.Run(ctx, nil, model.WithAdapter(trained), reference, corpus, eval.Options{Ctx: 64})
	check(err)
	fmt.Println("perplexity is lower:", with.Perplexity < without.Perplexity)
	// Output:
	// test divergence recovered: true
	// trained on this text: false
	// perplexity is lower: true
}

// sample returns a .jsonl file of 40 documents that a model writes.
func sample(ctx context.Context, m *infer.Model, seed uint64) (lines []byte) {
	texts, err := m.SampleTexts(ctx, nil, 40, 100, seed)
	check(err)
	for _, text := range texts {
		line, err := json.Marshal(map[string]string{"text": text})
		check(err)
		lines = append(append(lines, line...), '\n')
	}
	return lines
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

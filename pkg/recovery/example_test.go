package recovery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"afmq/internal/demo"
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
	_, err = quantize.Run(ctx, quantize.Options{Model: teacher, Out: artifact, Bits: 2})
	check(err)
	reference, err := infer.Open(ctx, teacher, infer.OpenOptions{})
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

	other := filepath.Join(dir, "other.jsonl")
	check(os.WriteFile(other, sample(ctx, reference, 2), 0o666))
	e, err := eval.Run(ctx, eval.Options{
		Model: artifact, Reference: teacher, Data: other, Ctx: 64,
		Adapters: []eval.Adapter{{Name: "rank-4", Dir: filepath.Join(dir, "out", best.Path)}},
	})
	check(err)
	fmt.Println("perplexity is lower:", e.Adapters[0].Perplexity < e.Perplexity)
	// Output:
	// test divergence recovered: true
	// perplexity is lower: true
}

// sample returns a .jsonl file of 40 documents that a model writes.
func sample(ctx context.Context, m *infer.Model, seed uint64) (lines []byte) {
	texts, err := m.SampleTexts(ctx, nil, 40, 100, seed, nil)
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

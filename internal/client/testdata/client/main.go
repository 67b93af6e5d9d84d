// Command client compresses a checkpoint, measures the loss on a text, and writes a story.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"afmq/pkg/eval"
	"afmq/pkg/infer"
	"afmq/pkg/quantize"
)

func main() {
	ctx := context.Background()
	model, text, out := os.Args[1], os.Args[2], os.Args[3]

	compressed, err := quantize.Run(ctx, quantize.Options{Model: model, Out: out, Bits: 4})
	check(err)
	fmt.Printf("%.2f bits per weight\n", compressed.BPW.Projections)

	loss, err := eval.Run(ctx, eval.Options{Model: out, Data: text, Reference: model, Ctx: 64})
	check(err)
	fmt.Printf("perplexity %.1f, KL divergence %.3f\n", loss.Perplexity, loss.KL.Mean)

	m, err := infer.Open(ctx, out, infer.OpenOptions{})
	check(err)
	prompt := m.Tokenizer.Encode("Once upon a time", true).IDs
	story, err := m.Generate(ctx, prompt, infer.GenerateOptions{MaxTokens: 20})
	check(err)
	fmt.Printf("Once upon a time%s\n", story.Text)
}

func check(err error) {
	if err != nil {
		log.Fatal(err) // a *fault.Error has the file, the cause and a hint
	}
}

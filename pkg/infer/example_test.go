package infer_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"afmq/internal/demo"
	"afmq/pkg/infer"
)

// Continue a prompt with the most likely tokens.
func Example() {
	dir, err := os.MkdirTemp("", "model-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := demo.Extract(dir); err != nil { // any checkpoint or artifact
		log.Fatal(err)
	}
	ctx := context.Background()
	m, err := infer.Open(ctx, dir, infer.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	prompt := m.Tokenizer.Encode("It was a cold", true).IDs
	g, err := m.Generate(ctx, prompt, infer.GenerateOptions{MaxTokens: 5})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q, %d tokens, stopped by %s\n", g.Text, len(g.Tokens), g.StopReason)
	// Output:
	// ", and the old man", 5 tokens, stopped by length
}

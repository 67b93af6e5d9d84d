package batch_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"afmq/internal/demo"
	"afmq/pkg/batch"
	"afmq/pkg/infer"
)

// Continue several prompts in the same passes.
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
	e, err := batch.New(m, batch.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close(ctx)
	var requests []*batch.Request
	for _, prompt := range []string{"It was a cold", "The old man"} {
		requests = append(requests, &batch.Request{Prompt: m.Tokenizer.Encode(prompt, true).IDs, MaxTokens: 5})
	}
	results, err := e.Do(ctx, requests...)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		s := m.Tokenizer.Stream(true)
		text := ""
		for _, t := range r.Tokens {
			text += s.Next(t.ID)
		}
		fmt.Printf("%q, %s\n", text+s.Flush(), r.Reason)
	}
	// Output:
	// ", and the old man", length
	// ",\nAnd the old", length
}

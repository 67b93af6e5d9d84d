package gguf_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"afmq/internal/demo"
	"afmq/pkg/export/gguf"
	"afmq/pkg/quantize"
)

// Quantize a checkpoint and write a GGUF file of it.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "gguf-example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	model, artifact := filepath.Join(dir, "model"), filepath.Join(dir, "4bit")
	if err := demo.Extract(model); err != nil {
		panic(err)
	}
	if _, err := quantize.Run(ctx, quantize.Options{Model: model, Out: artifact}); err != nil {
		fmt.Println(err)
		return
	}
	r, err := gguf.Export(ctx, gguf.Options{Artifact: artifact, Out: filepath.Join(dir, "4bit.gguf"), As: "f16"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("architecture:", r.Architecture)
	fmt.Println("pre-tokenizer:", r.PreTokenizer)
	fmt.Println("tensors:", r.Tensors)
	// Output:
	// architecture: qwen3
	// pre-tokenizer: gpt-2
	// tensors: 46
}

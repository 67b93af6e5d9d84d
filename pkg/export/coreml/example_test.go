package coreml_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"afmq/internal/demo"
	"afmq/pkg/export/coreml"
	"afmq/pkg/quantize"
)

// Quantize a checkpoint and write a Core ML package of it.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "coreml-example-")
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
	r, err := coreml.Export(ctx, coreml.Options{Artifact: artifact, Out: filepath.Join(dir, "4bit.mlpackage")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("functions:", r.Functions)
	fmt.Println("palettes equal to the artifact's:", r.Palettes)
	// Output:
	// functions: [decode prefill]
	// palettes equal to the artifact's: 28
}

package artifact_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"afmq/internal/demo"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/quantize"
)

// Verify an artifact, and one that was damaged.
func ExampleVerify() {
	dir, err := os.MkdirTemp("", "artifact-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	source, out := filepath.Join(dir, "model"), filepath.Join(dir, "4bit")
	if err := demo.Extract(source); err != nil { // any checkpoint
		log.Fatal(err)
	}
	ctx := context.Background()
	if _, err := quantize.Run(ctx, quantize.Options{Model: source, Out: out, Bits: 4}); err != nil {
		log.Fatal(err)
	}
	v, err := artifact.Verify(ctx, out, artifact.VerifyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d tensors, %.2f bits per weight in projections\n", v.Tensors, v.BPW.Projections)

	weights := filepath.Join(out, artifact.WeightsFile)
	if err := os.Truncate(weights, v.Ledger.Total-1); err != nil {
		log.Fatal(err)
	}
	var f *fault.Error
	_, err = artifact.Verify(ctx, out, artifact.VerifyOptions{})
	fmt.Println("damaged:", errors.As(err, &f) && f.Kind == fault.Input && f.File == weights)
	// Output:
	// 103 tensors, 4.20 bits per weight in projections
	// damaged: true
}

// Describe a checkpoint without reading its weights.
func ExampleDescribe() {
	dir, err := os.MkdirTemp("", "model-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := demo.Extract(dir); err != nil { // any checkpoint or artifact
		log.Fatal(err)
	}
	d, err := artifact.Describe(dir)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s of %s: %d layers, %d parameters, %.1f bits each\n", d.Kind, d.ModelType, d.Layers, d.Parameters, d.BitsPerParam)
	// Output:
	// checkpoint of qwen3: 4 layers, 1066368 parameters, 16.0 bits each
}

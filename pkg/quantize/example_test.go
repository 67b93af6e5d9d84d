package quantize_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"afmq/internal/demo"
	"afmq/pkg/artifact"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

// checkpoint writes the checkpoint of the examples, a model of 1.07 M parameters, and
// returns its directory and one for the results.
func checkpoint() (model, dir string) {
	dir, err := os.MkdirTemp("", "quantize-example-")
	if err != nil {
		panic(err)
	}
	model = filepath.Join(dir, "model")
	if err := demo.Extract(model); err != nil {
		panic(err)
	}
	return model, dir
}

// Quantize a checkpoint at the defaults and verify the artifact.
func Example() {
	ctx := context.Background()
	model, dir := checkpoint()
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "4bit")

	r, err := quantize.Run(ctx, quantize.Options{Model: model, Out: out})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d matrices, %.3f bits per weight in projections\n", len(r.Layers), r.BPW.Projections)
	fmt.Printf("%d of %d bytes\n", r.Bytes, r.SourceBytes)

	v, err := artifact.Verify(ctx, out, artifact.VerifyOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("verified:", v.ContentHash == r.ContentHash)
	// Output:
	// 29 matrices, 4.204 bits per weight in projections
	// 706144 of 2137584 bytes
	// verified: true
}

// Give some modules other bits than the rest.
func ExampleRun_overrides() {
	model, dir := checkpoint()
	defer os.RemoveAll(dir)
	r, err := quantize.Run(context.Background(), quantize.Options{
		Model: model, Out: filepath.Join(dir, "mixed"), Bits: 2,
		Overrides: []sensitivity.Override{{Pattern: `\.o_proj$`, Bits: 8}, {Pattern: `layers\.0\.mlp`, Bits: 4}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range r.Layers[:8] {
		fmt.Println(l.Name, l.Form, l.Bits)
	}
	// Output:
	// model.embed_tokens int8_row 8
	// model.layers.0.self_attn.q_proj palette 2
	// model.layers.0.self_attn.k_proj palette 2
	// model.layers.0.self_attn.v_proj palette 2
	// model.layers.0.self_attn.o_proj palette 8
	// model.layers.0.mlp.gate_proj palette 4
	// model.layers.0.mlp.up_proj palette 4
	// model.layers.0.mlp.down_proj palette 4
}

// Convert an artifact back to a checkpoint that other tools load.
func ExampleDequantize() {
	ctx := context.Background()
	model, dir := checkpoint()
	defer os.RemoveAll(dir)
	small, dense := filepath.Join(dir, "2bit"), filepath.Join(dir, "f16")
	if _, err := quantize.Run(ctx, quantize.Options{Model: model, Out: small, Bits: 2}); err != nil {
		fmt.Println(err)
		return
	}
	r, err := quantize.Dequantize(ctx, quantize.DequantizeOptions{Artifact: small, Out: dense})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Tensors, "tensors,", r.Bytes, "bytes")
	// Output: 46 tensors, 2137576 bytes
}

package mlx_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"afmq/internal/demo"
	"afmq/pkg/export/mlx"
	"afmq/pkg/quantize"
)

// Quantize a checkpoint and write a directory that mlx-lm loads.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "mlx-example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	model, artifact := filepath.Join(dir, "model"), filepath.Join(dir, "4bit")
	if err := demo.Extract(model); err != nil {
		panic(err)
	}
	if _, err := quantize.Run(ctx, quantize.Options{Model: model, Out: artifact, Form: "affine4_g64"}); err != nil {
		fmt.Println(err)
		return
	}
	r, err := mlx.Export(ctx, mlx.Options{Artifact: artifact, Out: filepath.Join(dir, "mlx")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("matrices:", r.Quantized)
	fmt.Println("bits:", r.Bits)
	fmt.Println("type:", r.Type)
	// Output:
	// matrices: 29
	// bits: 4
	// type: float16
}

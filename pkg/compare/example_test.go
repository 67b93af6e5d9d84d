package compare_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"afmq/internal/demo"
	"afmq/pkg/compare"
	"afmq/pkg/infer"
	"afmq/pkg/quantize"
)

// Compare two artifacts of one checkpoint on a text.
func Example() {
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, in := context.Background(), func(name string) string { return filepath.Join(dir, name) }
	if err := demo.Extract(in("model")); err != nil { // any checkpoint
		log.Fatal(err)
	}
	if err := writeText(ctx, in("model"), in("text.txt")); err != nil { // text that no model was fitted to
		log.Fatal(err)
	}
	for name, bits := range map[string]int{"q2": 2, "q4": 4} {
		if _, err := quantize.Run(ctx, quantize.Options{Model: in("model"), Out: in(name), Bits: bits}); err != nil {
			log.Fatal(err)
		}
	}
	r, err := compare.Run(ctx, compare.Options{
		Models: []compare.Model{{Path: in("q2")}, {Path: in("q4")}}, Reference: &compare.Model{Path: in("model")}, Data: in("text.txt"), Ctx: 64,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, row := range r.Models {
		fmt.Printf("%s: %.1f bits per weight in projections, %s\n", row.Name, row.BPW.Projections, row.Standing)
	}
	fmt.Println("better:", *r.Pairs[0].Better)
	fmt.Println("front:", r.Front)
	// Output:
	// model: 16.0 bits per weight in projections, reference
	// q2: 2.1 bits per weight in projections, front
	// q4: 4.2 bits per weight in projections, front
	// better: q4
	// front: [q2 q4]
}

func writeText(ctx context.Context, model, file string) error {
	m, err := infer.Open(ctx, model, infer.OpenOptions{})
	if err != nil {
		return err
	}
	texts, err := m.SampleTexts(ctx, nil, 24, 60, 1, nil)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strings.Join(texts, "\n\n")), 0o666)
}

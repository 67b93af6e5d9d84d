package eval_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"afmq/internal/demo"
	"afmq/pkg/adapter"
	"afmq/pkg/eval"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// Evaluate a model on a text, without and with an adapter, against a reference.
func Example() {
	dir, err := os.MkdirTemp("", "eval-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	base, text, lora := filepath.Join(dir, "model"), filepath.Join(dir, "text.txt"), filepath.Join(dir, "lora")
	if err := demo.Extract(base); err != nil { // any checkpoint or artifact
		log.Fatal(err)
	}
	if err := os.WriteFile(text, []byte(strings.Repeat("The boy sat down on a stone and looked at the sea. ", 10)), 0o666); err != nil {
		log.Fatal(err)
	}
	if err := writeZeroAdapter(base, lora); err != nil { // recovery.Run trains one
		log.Fatal(err)
	}
	e, err := eval.Run(context.Background(), eval.Options{
		Model: base, Reference: base, Data: text, Ctx: 64,
		Adapters: []eval.Adapter{{Name: "zero", Dir: lora}}, AllowUnbound: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d tokens, perplexity about %.0f, KL %.3f nats\n", e.Tokens, e.Perplexity, e.KL.Mean)
	for _, a := range e.Adapters {
		fmt.Printf("adapter %s changes the perplexity: %v\n", a.Name, a.Perplexity != e.Perplexity)
	}
	// Output:
	// 138 tokens, perplexity about 25, KL 0.000 nats
	// adapter zero changes the perplexity: false
}

// writeZeroAdapter writes an adapter of rank 1 for the query projections whose product B·A is
// zero, as an adapter is before training.
func writeZeroAdapter(base, dir string) error {
	cfg, err := model.LoadConfig(base)
	if err != nil {
		return err
	}
	a := &adapter.Adapter{Dir: dir, Config: adapter.Config{Rank: 1, Alpha: 1}, Modules: map[string]adapter.Weights{}}
	for _, spec := range cfg.Tensors() {
		if spec.Kind == "q_proj" {
			a.Config.Modules = append(a.Config.Modules, spec.Module())
			a.Modules[spec.Module()] = adapter.Weights{A: make([]float32, spec.Shape[1]), B: make([]float32, spec.Shape[0])}
		}
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	return adapter.Write(a, cfg, safetensors.F16, func(path string, data []byte) error { return os.WriteFile(path, data, 0o666) })
}

package gate_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"afmq/internal/demo"
	"afmq/pkg/artifact"
	"afmq/pkg/gate"
	"afmq/pkg/infer"
	"afmq/pkg/quantize"
)

// Verify a 4-bit artifact and record it as the baseline, then test a 2-bit one against it.
func ExampleRun() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "gate-")
	check(err)
	defer os.RemoveAll(dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	check(demo.Extract(in("model"))) // any 16-bit checkpoint
	check(os.WriteFile(in("text.txt"), heldOut(ctx, in("model")), 0o666))
	for _, bits := range []int{4, 2} {
		_, err := quantize.Run(ctx, quantize.Options{Model: in("model"), Out: in(fmt.Sprint(bits)), Bits: bits})
		check(err)
	}
	_, err = artifact.Verify(ctx, in("4"), artifact.VerifyOptions{})
	check(err)

	opts := gate.Options{Artifact: in("4"), Baseline: in("baseline.json"), Data: in("text.txt"), Ctx: 64, Update: true}
	r, err := gate.Run(ctx, opts)
	check(err)
	fmt.Println("recorded:", r.Updated)

	opts.Artifact, opts.Update = in("2"), false
	r, err = gate.Run(ctx, opts)
	check(err)
	fmt.Println(r.Decision, len(r.Failures()))
	// Output:
	// recorded: true
	// worse 1
}

// heldOut returns text that the model writes.
func heldOut(ctx context.Context, dir string) []byte {
	m, err := infer.Open(ctx, dir, infer.OpenOptions{})
	check(err)
	texts, err := m.SampleTexts(ctx, nil, 24, 100, 1, nil)
	check(err)
	return []byte(strings.Join(texts, "\n\n"))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

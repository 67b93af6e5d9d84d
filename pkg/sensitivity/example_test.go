package sensitivity_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"afmq/internal/demo"
	"afmq/pkg/sensitivity"
)

// Score the modules of a model on calibration text, and choose the bits of each for an
// average of 3.5 bits per weight.
func Example() {
	dir, err := os.MkdirTemp("", "sensitivity-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	model, text := filepath.Join(dir, "model"), filepath.Join(dir, "calib.txt")
	if err := demo.Extract(model); err != nil { // a checkpoint of 1 M parameters
		log.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("The captain stood at the door and looked out over the sea."), 0o644); err != nil {
		log.Fatal(err)
	}

	r, err := sensitivity.Score(context.Background(), sensitivity.Options{
		Model:       model,
		Calibration: sensitivity.CalibrationOptions{Files: []string{text}},
	})
	if err != nil {
		log.Fatal(err)
	}
	plan, err := sensitivity.MakePlan(r.Scores, sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 3.5}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d modules at %v bits, scores in %s\n", len(r.Scores.Modules), r.Scores.Bits, r.Scores.Unit)
	fmt.Printf("%.1f bits per weight, proven optimal: %v\n", plan.BPW.Projections, plan.Optimal)
	// Output:
	// 28 modules at [2 3 4] bits, scores in nats per token
	// 3.5 bits per weight, proven optimal: true
}

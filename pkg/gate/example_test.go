package gate_test

import (
	"fmt"
	"log"
	"math"
	"strings"

	"afmq/pkg/eval"
	"afmq/pkg/gate"
)

// record returns the figures of a model that is worse by rise than a made-up one, on n
// windows of 255 scored tokens.
func record(rise float64, n int) *gate.Baseline {
	digest := strings.Repeat("0", 64)
	e := &eval.Result{Tokens: 255 * n, NatsPerToken: 3}
	for i := range n {
		hard := math.Sin(float64(i)) // some windows are harder than others
		e.Windows = append(e.Windows, eval.WindowScore{Tokens: 255, Nats: 3 + hard + rise*(1+hard)})
	}
	setting := gate.Setting{Data: digest, Tokenizer: digest, Protocol: eval.Chunk, Ctx: 256, Compute: "f32"}
	b, err := gate.NewBaseline("text.txt", "example", setting, gate.Subject{Kind: "artifact", Digest: digest}, e)
	if err != nil {
		log.Fatal(err)
	}
	return b
}

func ExampleJudge() {
	for _, c := range []struct {
		rise float64
		n    int
	}{{0.001, 40}, {0.008, 20}, {0.05, 40}} {
		v, err := gate.Judge("baseline.json", record(0, c.n), record(c.rise, c.n), gate.Limits{})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %+.4f to %+.4f\n", v.Outcome, v.Nats.Low, v.Nats.High)
		if need := v.Checks[0].Needed; need != nil {
			fmt.Printf("%s on %d windows\n", need.Outcome, need.Windows)
		}
	}
	// Output:
	// no_worse: +0.0010 to +0.0011
	// inconclusive: +0.0052 to +0.0109
	// no_worse on 31 windows
	// worse: +0.0485 to +0.0544
}

package serve

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"afmq/pkg/batch"
	"afmq/pkg/compute"
)

// harness is what lm-evaluation-harness answers with its backend of transformers; see
// scripts/make_serve_fixtures.py.
type harness struct {
	Scored []struct {
		Context       []int32 `json:"context"`
		Continuation  []int32 `json:"continuation"`
		LogLikelihood float64 `json:"log_likelihood"`
		Greedy        bool    `json:"greedy"`
	} `json:"scored"`
	Generated []struct {
		Prompt []int32  `json:"prompt"`
		Until  []string `json:"until"`
		Most   int      `json:"max_tokens"`
		Text   string   `json:"text"`
	} `json:"generated"`
}

// Scores and texts through the harness's client local-completions are those of its backend of
// transformers: log-likelihoods within 1e-3, and the same choices greedy.
func TestHarness(t *testing.T) {
	data, err := os.ReadFile("testdata/lm_eval.json")
	if err != nil {
		t.Fatal(err)
	}
	var h harness
	if err := json.Unmarshal(data, &h); err != nil {
		t.Fatal(err)
	}
	greedy := 0
	for _, engine := range []batch.Options{{}, {Prefill: compute.Fastest(false), Decode: compute.Fastest(true)}} {
		s := newServer(t, Options{Engine: engine})
		var prompts [][]int32
		for _, c := range h.Scored {
			prompts = append(prompts, slices.Concat(c.Context, c.Continuation))
		}
		body, _ := json.Marshal(map[string]any{"model": "tiny", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true})
		out := ok(t, s, "/v1/completions", string(body))
		for i, c := range h.Scored {
			// As the client does: what follows the context, without the generated token.
			scores := at(t, out, "choices", i, "logprobs").(map[string]any)
			values, best := scores["token_logprobs"].([]any), scores["top_logprobs"].([]any)
			from, to := len(c.Context), len(values)-1
			sum, all := 0.0, true
			for k := from; k < to; k++ {
				sum += values[k].(float64)
				most := math.Inf(-1)
				for _, p := range best[k].(map[string]any) {
					most = max(most, p.(float64))
				}
				all = all && most == values[k]
			}
			if to-from != len(c.Continuation) || math.Abs(sum-c.LogLikelihood) > 1e-3 || all != c.Greedy {
				t.Errorf("choice %d: %d tokens, %g, greedy %v; want %d, %g, %v", i, to-from, sum, all, len(c.Continuation), c.LogLikelihood, c.Greedy)
			}
			if all {
				greedy++
			}
		}
		for i, g := range h.Generated {
			body, _ := json.Marshal(map[string]any{"prompt": [][]int32{g.Prompt}, "temperature": 0, "max_tokens": g.Most, "stop": g.Until, "seed": 1234})
			if text := at(t, ok(t, s, "/v1/completions", string(body)), "choices", 0, "text"); text != g.Text {
				t.Errorf("text %d: %q, want %q", i, text, g.Text)
			}
		}
	}
	if len(h.Scored) < 20 || greedy == 0 {
		t.Errorf("%d choices, %d greedy", len(h.Scored), greedy)
	}
}

package model

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

// Frequencies and attention factors agree with those of transformers' own code,
// which computes them in float32; scripts/make_model_fixtures.py wrote them.
func TestRopeAgreesWithTransformers(t *testing.T) {
	data, err := os.ReadFile("testdata/rope.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name            string          `json:"name"`
		Config          json.RawMessage `json:"config"`
		HeadDim         int             `json:"head_dim"`
		SeqLen          int             `json:"seq_len"`
		InvFreq         []float64       `json:"inv_freq"`
		AttentionFactor float64         `json:"attention_factor"`
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	types := map[string]int{}
	for i, tc := range cases {
		c, err := ParseConfig("config.json", tc.Config)
		if err != nil {
			t.Errorf("case %d: %v", i, err)
			continue
		}
		types[c.Rope.Type]++
		inv, factor := c.Rope.Frequencies(tc.HeadDim, tc.SeqLen)
		if len(inv) != len(tc.InvFreq) {
			t.Errorf("case %d: %d frequencies, expected %d", i, len(inv), len(tc.InvFreq))
			continue
		}
		if math.Abs(factor-tc.AttentionFactor) > 1e-9*tc.AttentionFactor {
			t.Errorf("case %d (%s): attention factor %v, expected %v", i, c.Rope.Type, factor, tc.AttentionFactor)
		}
		for j, want := range tc.InvFreq {
			if math.Abs(inv[j]-want) > 1e-5*want {
				t.Errorf("case %d (%s %s, %d tokens): frequency %d is %v, expected %v", i, tc.Name, c.Rope.Type, tc.SeqLen, j, inv[j], want)
				break
			}
		}
	}
	for _, want := range ropeTypes {
		if types[want] == 0 {
			t.Errorf("no case for rope type %s", want)
		}
	}
}

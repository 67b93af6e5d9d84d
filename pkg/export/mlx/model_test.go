package mlx

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/exporttest"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

// refused are the fixtures that are refused, by what the message says, and the context in which
// they are not.
var refused = map[string]struct {
	context int
	message string
}{
	"llama-longrope-long":  {0, "class llama does not have the rotary embedding longrope"},
	"llama-longrope-short": {0, "longrope"},
	"mistral-window":       {8, "class llama does not have a sliding window (8 of 64 tokens in 2 layers of 2)"},
	"mistral-window-1":     {1, "sliding window"},
	"mistral-window-long":  {300, "sliding window"},
	"qwen2-window":         {5, "class qwen2 does not have a sliding window"},
	"qwen3-layer-types":    {7, "class qwen3 does not have a sliding window"},
	"qwen3-biases":         {0, "class qwen3 does not have a bias of o_proj"},
}

// config.json of every family says what the model computes, in the keys that mlx-lm reads and
// without those that it does not.
func TestFamilies(t *testing.T) {
	for _, name := range exporttest.Names(t) {
		t.Run(name, func(t *testing.T) {
			q := exporttest.Quantize(t, quantize.Options{Model: exporttest.Copy(t, name), Bits: 4, Overrides: []sensitivity.Override{{Pattern: "_proj", Bits: artifact.KeepBits}}})
			opts := Options{Artifact: q, As: "bf16"}
			if c, no := refused[name]; no {
				_, err := Export(bg, Options{Artifact: q, As: "bf16", Out: filepath.Join(t.TempDir(), "m")})
				if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), c.message) {
					t.Fatalf("%v, expected that mlx-lm cannot express it: %s", err, c.message)
				}
				if c.context == 0 {
					return
				}
				var e *fault.Error
				if errors.As(err, &e); !strings.Contains(e.Hint, fmt.Sprintf("--ctx %d ", c.context)) {
					t.Errorf("hint %q, expected --ctx %d", e.Hint, c.context)
				}
				opts.Context = c.context
			}
			f, r := export(t, opts)
			want, err := model.LoadConfig(q)
			if err != nil {
				t.Fatal(err)
			}
			raw := readConfig(t, f)
			checkKeys(t, want, raw, r.Context)
			got, err := model.LoadConfig(filepath.Dir(f.Path()))
			if err != nil {
				t.Fatal(err)
			}
			for l := range want.Layers {
				a, b := want.Window(l), got.Window(l)
				if a >= r.Context { // no window
					a = 0
				}
				if a != b && want.ModelType == "mistral" {
					t.Errorf("layer %d has a window of %d, expected %d", l, b, a)
				}
			}
			a, _ := want.Rope.Frequencies(want.HeadDim, r.Context)
			if b, _ := got.Rope.Frequencies(got.HeadDim, r.Context); !slices.Equal(a, b) {
				t.Errorf("frequencies %v, expected %v", b, a)
			}
			for _, c := range []*model.Config{want, got} {
				c.Quantization, c.SlidingWindow, c.Sliding, c.MaxPositions = nil, 0, nil, 0
				c.Rope.MaxPositions, c.Rope.AttentionFactor, c.Rope.Truncate = 0, 0, false
				if c.Rope.Type == "default" || c.Rope.Type == "linear" || c.Rope.Type == "dynamic" {
					c.Rope.OriginalPositions = 0
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the model is another one: %+v, expected %+v", got, want)
			}
		})
	}
}

// checkKeys checks what mlx-lm reads at the top of config.json.
func checkKeys(t *testing.T, want *model.Config, raw map[string]any, context int) {
	t.Helper()
	for key, v := range map[string]any{
		"rope_theta": want.Rope.Theta, "head_dim": float64(want.HeadDim), "num_key_value_heads": float64(want.KVHeads),
		"max_position_embeddings": float64(context), "tie_word_embeddings": want.TieEmbeddings, "rms_norm_eps": want.RMSNormEps,
	} {
		if raw[key] != v {
			t.Errorf("%s is %v, expected %v", key, raw[key], v)
		}
	}
	scaling, scaled := raw["rope_scaling"].(map[string]any)
	if scaled != (want.Rope.Type != "default") || scaled && scaling["rope_type"] != want.Rope.Type {
		t.Fatalf("rope_scaling is %v, expected %s", raw["rope_scaling"], want.Rope.Type)
	}
	if want.Rope.Type != "yarn" {
		return
	}
	// YarnRoPE of mlx-lm.
	if got := 0.1*scaling["mscale"].(float64)*math.Log(scaling["factor"].(float64)) + 1; math.Abs(got-want.Rope.AttentionFactor) > 1e-12 {
		t.Errorf("mlx-lm computes a factor of attention of %v, expected %v", got, want.Rope.AttentionFactor)
	}
}

func TestOtherFamilies(t *testing.T) {
	exporttest.Refuses(t, func(artifact, out string) error {
		_, err := Export(bg, Options{Artifact: artifact, Out: out})
		return err
	})
}

package mlx

import (
	"fmt"
	"math"
	"slices"

	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// class is what a model class of mlx-lm computes.
type class struct {
	name  string
	llama bool // biases of all projections, layers with a sliding window
	// outputBias, queryBias: of o_proj, and of q_proj, k_proj and v_proj.
	outputBias, queryBias bool
	wideHeads             bool // heads whose dimensions do not add up to the hidden size
}

// classes has the class of each model family: mlx-lm runs mistral as llama (MODEL_REMAPPING in
// mlx_lm/utils.py).
var classes = map[string]class{
	"llama":   {name: "llama", llama: true, outputBias: true, queryBias: true, wideHeads: true},
	"mistral": {name: "llama", llama: true, outputBias: true, queryBias: true, wideHeads: true},
	"qwen2":   {name: "qwen2", queryBias: true},
	"qwen3":   {name: "qwen3", wideHeads: true},
}

// windowed reports whether a layer has a sliding window that is shorter than the context.
func (e *exporter) windowed() bool {
	w := e.s.Config.SlidingWindow
	return w > 0 && w < e.Context
}

// checkModel checks that mlx-lm's class computes what the model does.
func (e *exporter) checkModel() error {
	c := e.s.Config
	k, ok := classes[c.ModelType]
	switch {
	case !ok:
		return fault.Infeasiblef("%s: mlx-lm's class for %s models is not known", e.Artifact, c.ModelType)
	case c.OBias && !k.outputBias:
		return e.lacks(k, "a bias of o_proj (attention_bias)")
	case c.QKVBias && !k.queryBias:
		return e.lacks(k, "a bias of q_proj, k_proj and v_proj (attention_bias)")
	case c.Heads*c.HeadDim != c.HiddenSize && !k.wideHeads:
		return e.lacks(k, fmt.Sprintf("%d heads of %d in a hidden size of %d", c.Heads, c.HeadDim, c.HiddenSize))
	case e.Context > c.MaxPositions:
		return fault.Usagef("a context of %d is longer than the model's %d positions (max_position_embeddings)", e.Context, c.MaxPositions)
	case e.windowed() && (!k.llama || !slices.Contains(c.Sliding, false)):
		return e.lacks(k, fmt.Sprintf("a sliding window (%d of %d tokens in %d layers of %d)", c.SlidingWindow, e.Context, c.SlidingLayers(), c.Layers)).
			WithHint("with --ctx %d the window holds the whole context and makes no difference", c.SlidingWindow)
	}
	return e.checkRope(k)
}

// checkRope checks that mlx-lm computes the rotary embedding (mlx_lm/models/rope_utils.py).
func (e *exporter) checkRope(k class) error {
	switch r := e.s.Config.Rope; r.Type {
	case "default", "linear", "llama3":
		return nil
	case "dynamic": // it differs beyond max_position_embeddings alone
		return nil
	case "yarn":
		rounded := r
		rounded.Truncate = true
		a, _ := r.Frequencies(e.s.Config.HeadDim, e.Context)
		b, _ := rounded.Frequencies(e.s.Config.HeadDim, e.Context)
		if !slices.Equal(a, b) {
			return e.lacks(k, "the rotary embedding yarn with truncate false")
		}
		if _, ok := magnitude(r); !ok && r.AttentionFactor != 1 {
			return e.lacks(k, fmt.Sprintf("the rotary embedding yarn with attention_factor %v and factor %v", r.AttentionFactor, r.Factor))
		}
		return nil
	default: // of longrope it has the factors for long texts only
		return e.lacks(k, "the rotary embedding "+r.Type)
	}
}

// magnitude returns mscale, from which mlx-lm computes the factor of attention, 0.1·mscale·ln(factor)+1;
// or false for a factor of 1, for which that is 1.
func magnitude(r model.Rope) (float64, bool) {
	if r.Factor <= 1 {
		return 0, false
	}
	return (r.AttentionFactor - 1) / (0.1 * math.Log(r.Factor)), true
}

// lacks returns the error for what a class does not have.
func (e *exporter) lacks(k class, what string) *fault.Error {
	return fault.Infeasiblef("%s: mlx-lm's class %s does not have %s", e.Artifact, k.name, what)
}

package device

import (
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Use is how a model is used.
type Use struct {
	Ctx    int `json:"ctx"`    // capacity of the key-value cache, in tokens
	Prompt int `json:"prompt"` // tokens of the prompt; at most Ctx
}

// Defaults of a use, limited by the positions of the model.
const (
	defaultCtx   = 4096
	promptShare  = 4 // the prompt is one part in so many of the context
	maxCtxTokens = 1 << 30
)

// Resolve replaces zeros by defaults and checks the rest. Errors are fault.Usage.
func (u Use) Resolve(cfg *model.Config) (Use, error) {
	if u.Ctx == 0 {
		u.Ctx = max(min(defaultCtx, cfg.MaxPositions), min(u.Prompt, cfg.MaxPositions))
	}
	if u.Prompt == 0 {
		u.Prompt = max(u.Ctx/promptShare, 1)
	}
	switch {
	case u.Ctx < 1 || u.Ctx > maxCtxTokens:
		return u, fault.Usagef("--ctx %d is not a number of tokens", u.Ctx)
	case u.Ctx > cfg.MaxPositions:
		return u, fault.Usagef("--ctx %d exceeds the %d positions of the model", u.Ctx, cfg.MaxPositions)
	case u.Prompt < 1 || u.Prompt > u.Ctx:
		return u, fault.Usagef("--prompt %d is not between 1 and the context of %d tokens", u.Prompt, u.Ctx)
	}
	return u, nil
}

// Work is the memory traffic and arithmetic of a model, independent of the device.
type Work struct {
	WeightBytes int64 // of all stored tensors; memory holds them as the file does
	StepBytes   int64 // of weights read per token
	LayerOps    int64 // multiply-adds of the layers' matrices per token
	HeadOps     int64 // multiply-adds of the head per token
	PairOps     int64 // multiply-adds of attention per pair of a token and a position that it attends to
	KVValues    int64 // numbers in the keys and values of one position
	// PairOps and KVValues count the layers that attend to the whole context. The following
	// are the same for layers with a sliding window, and the length of the window; 0 if
	// there are none.
	WindowPairOps, WindowKVValues int64
	Window                        int
}

// NewWork returns the work of a model with this layout; see artifact.StoredLayout.
func NewWork(cfg *model.Config, layout []artifact.StoredTensor) Work {
	var w Work
	for i := range layout {
		st := &layout[i]
		w.WeightBytes += st.Bytes
		switch st.Spec.Role {
		case model.Embedding:
			if cfg.TieEmbeddings { // it is also the head
				w.StepBytes += st.Bytes
				w.HeadOps += st.Weights()
			} else {
				w.StepBytes += st.Bytes / int64(cfg.VocabSize)
			}
		case model.Head:
			w.StepBytes += st.Bytes
			w.HeadOps += st.Weights()
		default:
			w.StepBytes += st.Bytes
			if st.Spec.Role == model.Projection {
				w.LayerOps += st.Weights()
			}
		}
	}
	sliding := int64(cfg.SlidingLayers())
	full := int64(cfg.Layers) - sliding
	pair, kv := 2*int64(cfg.Heads)*int64(cfg.HeadDim), 2*int64(cfg.KVHeads)*int64(cfg.HeadDim)
	w.PairOps, w.KVValues = full*pair, full*kv
	w.WindowPairOps, w.WindowKVValues, w.Window = sliding*pair, sliding*kv, cfg.SlidingWindow
	return w
}

// Bound is the resource that limits a step.
type Bound string

const (
	Memory  Bound = "memory"  // bandwidth
	Compute Bound = "compute" // arithmetic
)

// Estimate is the roofline estimate of a model on a device: lower bounds of times, upper
// bounds of rates.
type Estimate struct {
	WeightBytes int64 `json:"weight_bytes"`
	KVBytes     int64 `json:"kv_bytes"` // keys and values of the whole context
	TotalBytes  int64 `json:"total_bytes"`
	Fits        bool  `json:"fits"` // in the memory that the device has for a model

	FirstToken      float64 `json:"first_token_seconds"` // time to process the prompt
	FirstTokenBound Bound   `json:"first_token_bound"`
	// Tokens per second right after the prompt, and with a full context.
	Decode      float64 `json:"decode_tokens_per_second"`
	DecodeFull  float64 `json:"decode_tokens_per_second_full"`
	DecodeBound Bound   `json:"decode_bound"` // right after the prompt
}

// Estimate applies the roofline. The use must be resolved.
func (p *Profile) Estimate(w Work, u Use) Estimate {
	kv, windowKV := w.KVValues*int64(p.KVBits)/8, w.WindowKVValues*int64(p.KVBits)/8
	e := Estimate{WeightBytes: w.WeightBytes, KVBytes: kv*int64(u.Ctx) + windowKV*int64(min(u.Ctx, w.Window))}
	e.TotalBytes = e.WeightBytes + e.KVBytes
	e.Fits = float64(e.TotalBytes) <= p.Memory.Value
	n, m := float64(u.Prompt), float64(min(u.Prompt, w.Window))
	pairs := n * (n + 1) / 2 // a token also attends to itself
	windowPairs := m*(m+1)/2 + (n-m)*m
	attention := pairs*float64(w.PairOps) + windowPairs*float64(w.WindowPairOps)
	e.FirstToken, e.FirstTokenBound = p.time(2*(n*float64(w.LayerOps)+float64(w.HeadOps)+attention), float64(w.StepBytes))
	step := func(earlier int) (float64, Bound) {
		c, seen := float64(earlier), float64(min(earlier+1, w.Window))
		attention := (c+1)*float64(w.PairOps) + seen*float64(w.WindowPairOps)
		read := c * float64(kv)
		if w.Window > 0 {
			read += (seen - 1) * float64(windowKV)
		}
		return p.time(2*(float64(w.LayerOps+w.HeadOps)+attention), float64(w.StepBytes)+read)
	}
	t, bound := step(u.Prompt)
	e.Decode, e.DecodeBound = 1/t, bound
	t, _ = step(u.Ctx - 1)
	e.DecodeFull = 1 / t
	return e
}

// time returns the time of a step, that of the slower resource, in seconds.
func (p *Profile) time(flop, bytes float64) (float64, Bound) {
	c, m := flop/p.Compute.Value, bytes/p.Bandwidth.Value
	if c > m {
		return c, Compute
	}
	return m, Memory
}

package device

import (
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Use is how a model is used.
type Use struct {
	Ctx    int `json:"ctx"`    // tokens that keys and values are kept for
	Prompt int `json:"prompt"` // tokens read before the first is written; at most Ctx
}

// Defaults of a use, where the model allows them.
const (
	defaultCtx   = 4096
	promptShare  = 4 // of the context, one part is the prompt
	maxCtxTokens = 1 << 30
)

// Resolve fills in what is 0 and checks the rest. Errors are fault.Usage.
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
		return u, fault.Usagef("--ctx %d is more than the %d positions of the model", u.Ctx, cfg.MaxPositions)
	case u.Prompt < 1 || u.Prompt > u.Ctx:
		return u, fault.Usagef("--prompt %d is not between 1 and the context of %d tokens", u.Prompt, u.Ctx)
	}
	return u, nil
}

// Work is what running a model takes, whatever runs it.
type Work struct {
	WeightBytes int64 // of all stored tensors, in memory as in the file
	StepBytes   int64 // of weights read for one token
	LayerOps    int64 // multiply-adds of the layers' matrices for one token
	HeadOps     int64 // of the head
	PairOps     int64 // multiply-adds of attention for a token and a position that it sees
	KVValues    int64 // keys and values of a position, in numbers
	// PairOps and KVValues are of the layers that attend to the whole context. These are
	// the same of those with a sliding window, and the positions that it spans; 0 if there
	// are none.
	WindowPairOps, WindowKVValues int64
	Window                        int
}

// NewWork adds up what a model stored like this takes; see artifact.StoredLayout.
func NewWork(cfg *model.Config, layout []artifact.StoredTensor) Work {
	var w Work
	for i := range layout {
		st := &layout[i]
		w.WeightBytes += st.Bytes
		switch st.Spec.Role {
		case model.Embedding:
			if cfg.TieEmbeddings { // it is the head too
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

// Bound says what a step waits for.
type Bound string

const (
	Memory  Bound = "memory"  // bytes read
	Compute Bound = "compute" // arithmetic
)

// Estimate is what a device makes of a model at best.
type Estimate struct {
	WeightBytes int64 `json:"weight_bytes"`
	KVBytes     int64 `json:"kv_bytes"` // of the whole context
	TotalBytes  int64 `json:"total_bytes"`
	Fits        bool  `json:"fits"` // in the device's memory for models

	FirstToken      float64 `json:"first_token_seconds"` // of the prompt
	FirstTokenBound Bound   `json:"first_token_bound"`
	// Tokens per second just after the prompt, and with the context full.
	Decode      float64 `json:"decode_tokens_per_second"`
	DecodeFull  float64 `json:"decode_tokens_per_second_full"`
	DecodeBound Bound   `json:"decode_bound"` // after the prompt
}

// Estimate applies the roofline. The use must be resolved.
func (p *Profile) Estimate(w Work, u Use) Estimate {
	kv, windowKV := w.KVValues*int64(p.KVBits)/8, w.WindowKVValues*int64(p.KVBits)/8
	e := Estimate{WeightBytes: w.WeightBytes, KVBytes: kv*int64(u.Ctx) + windowKV*int64(min(u.Ctx, w.Window))}
	e.TotalBytes = e.WeightBytes + e.KVBytes
	e.Fits = float64(e.TotalBytes) <= p.Memory.Value
	n, m := float64(u.Prompt), float64(min(u.Prompt, w.Window))
	pairs := n * (n + 1) / 2 // a token attends to itself too
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

// time is that of the slower of two.
func (p *Profile) time(flop, bytes float64) (float64, Bound) {
	c, m := flop/p.Compute.Value, bytes/p.Bandwidth.Value
	if c > m {
		return c, Compute
	}
	return m, Memory
}

package model

import (
	"math"
	"strings"
)

// Rope describes a rotary position embedding (Su et al. 2021, arXiv:2104.09864) and the scaling
// of its frequencies for texts longer than those of the original training.
type Rope struct {
	Type   string  // default, linear, dynamic, yarn, llama3 or longrope
	Theta  float64 // the base
	Factor float64 // of the scaling; 1 for default
	Dims   int     // that are rotated of each head, the first ones, even; 0 for all

	MaxPositions      int // max_position_embeddings; dynamic scales longer sequences
	OriginalPositions int // length of the original training: yarn, llama3, longrope

	AttentionFactor           float64   // on cosine and sine: yarn, longrope
	BetaFast, BetaSlow        float64   // yarn: rotations within OriginalPositions between which the ramp lies
	Truncate                  bool      // yarn: round the ends of the ramp to whole dimensions
	LowFactor, HighFactor     float64   // llama3: low_freq_factor, high_freq_factor
	ShortFactors, LongFactors []float64 // longrope: [head_dim/2], up to OriginalPositions and beyond
}

// Frequencies returns the angle per position of each pair of dimensions that is rotated
// [headDim/2, or Dims/2], and the factor on cosine and sine, for a sequence of seqLen
// tokens. Only dynamic and longrope depend on seqLen.
//
// The formulas: linear, Chen et al. 2023 (arXiv:2306.15595); dynamic, NTK-aware
// interpolation as in Peng et al. 2023 (arXiv:2309.00071, appendix A and B.3);
// yarn, the same paper, section 3; longrope, Ding et al. 2024 (arXiv:2402.13753);
// llama3, the release of Llama 3.1. Details that these leave open are as in Hugging
// Face transformers. The exponents are computed in float64.
func (r Rope) Frequencies(headDim, seqLen int) (inv []float64, attentionFactor float64) {
	if r.Dims > 0 {
		headDim = r.Dims
	}
	dim, base := float64(headDim), r.Theta
	if r.Type == "dynamic" {
		length := float64(max(seqLen, r.MaxPositions))
		base *= math.Pow(r.Factor*length/float64(r.MaxPositions)-(r.Factor-1), dim/(dim-2))
	}
	inv = make([]float64, headDim/2)
	for i := range inv {
		inv[i] = math.Pow(base, -float64(2*i)/dim)
	}
	switch r.Type {
	case "linear":
		for i := range inv {
			inv[i] /= r.Factor
		}
	case "llama3":
		for i := range inv {
			inv[i] = r.llama3(inv[i])
		}
	case "yarn":
		low, high := r.yarnRange(dim)
		for i := range inv {
			// 0: extrapolate, for fast rotations; 1: interpolate.
			ramp := min(max((float64(i)-low)/(high-low), 0), 1)
			inv[i] = inv[i]/r.Factor*ramp + inv[i]*(1-ramp)
		}
		return inv, r.AttentionFactor
	case "longrope":
		factors := r.ShortFactors
		if seqLen > r.OriginalPositions {
			factors = r.LongFactors
		}
		for i := range inv {
			inv[i] /= factors[i]
		}
		return inv, r.AttentionFactor
	}
	return inv, 1
}

// Regime returns a number above 0 that is equal for two sequence lengths if their frequencies are.
func (r Rope) Regime(seqLen int) int {
	switch {
	case r.Type == "dynamic":
		return max(seqLen, r.MaxPositions)
	case r.Type == "longrope" && seqLen > r.OriginalPositions:
		return 2
	}
	return 1
}

// llama3 scales one frequency: by the factor for long wavelengths, not at all for short ones.
func (r Rope) llama3(inv float64) float64 {
	length := float64(r.OriginalPositions)
	rotations := length * inv / (2 * math.Pi)
	switch {
	case rotations < r.LowFactor:
		return inv / r.Factor
	case rotations > r.HighFactor:
		return inv
	}
	smooth := (rotations - r.LowFactor) / (r.HighFactor - r.LowFactor)
	return (1-smooth)*inv/r.Factor + smooth*inv
}

// yarnRange returns the pairs of dimensions between which interpolation increases from 0 to 1.
func (r Rope) yarnRange(dim float64) (low, high float64) {
	at := func(rotations float64) float64 {
		return dim * math.Log(float64(r.OriginalPositions)/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high = at(r.BetaFast), at(r.BetaSlow)
	if r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, dim-1)
	if low == high {
		high += 0.001
	}
	return low, high
}

// readRopes reads the rotary embeddings from rope_theta and rope_scaling, or from rope_parameters in
// newer files.
func (c *Config) readRopes(f *fields, fam family) {
	if p := f.float("partial_rotary_factor", 1); p != 1 && fam.original == 0 {
		f.fail("partial_rotary_factor", "is %v; a rotation of only a part of each head is not supported", p)
	}
	o := f.object("rope_scaling")
	if o == nil || len(o.m) == 0 {
		o = f.object("rope_parameters")
	}
	if o == nil {
		o = &fields{file: f.file, path: "rope_parameters."}
	}
	if fam.ropes {
		c.readLayerRopes(f, fam)
		return
	}
	for _, key := range []string{fullAttention, slidingAttention} {
		if o.has(key) {
			o.fail(key, "is present, which is not supported")
		}
	}
	theta := f.float("rope_theta", fam.theta)
	if fam.original > 0 {
		c.readPhiRope(f, o, fam, theta)
		return
	}
	c.Rope = readRope(f, o, c, theta)
}

// readRope reads a rotary embedding from its parameters o, with the base theta where they have none.
func readRope(f, o *fields, c *Config, theta float64) Rope {
	r := Rope{Type: "default", Factor: 1, AttentionFactor: 1, MaxPositions: c.MaxPositions, OriginalPositions: c.MaxPositions}
	if p := o.float("partial_rotary_factor", 1); p != 1 {
		o.fail("partial_rotary_factor", "is %v; a rotation of only a part of each head is not supported", p)
	}
	r.Theta = o.float("rope_theta", theta)
	switch {
	case r.Theta == 0:
		f.fail("", "keys \"rope_theta\" and \"rope_parameters\" are missing; %s has no default", c.ModelType)
	case r.Theta <= 1:
		f.fail("rope_theta", "is %v; expected more than 1", r.Theta)
	}
	if f.err == nil {
		r.readScaling(f, o, c)
		f.err = o.err
	}
	return r
}

// readScaling reads the parameters of the type of scaling.
func (r *Rope) readScaling(f, o *fields, c *Config) {
	if o.has("mrope_section") {
		o.fail("mrope_section", "is present, which is not supported")
	}
	if t := o.string("rope_type", o.string("type", "default")); t != "" {
		r.Type = t
	}
	switch r.Type {
	case "default":
		return
	case "linear", "dynamic":
		r.Factor = factor(o, 0)
		if r.Type == "dynamic" && c.HeadDim < 4 {
			o.fail("rope_type", "is dynamic, which needs a head_dim of 4 or more")
		}
	case "yarn":
		r.readOriginal(f, o)
		r.Factor = float64(r.MaxPositions) / float64(r.OriginalPositions)
		if !o.isNull("factor") { // null means the ratio of the lengths; the key is required
			r.Factor = factor(o, 0)
		}
		r.BetaFast, r.BetaSlow = positive(o, "beta_fast", 32), positive(o, "beta_slow", 1)
		r.Truncate = o.bool("truncate", true)
		r.AttentionFactor = yarnMagnitude(r.Factor, 1)
		if m, all := o.float("mscale", 0), o.float("mscale_all_dim", 0); m != 0 && all != 0 {
			r.AttentionFactor = yarnMagnitude(r.Factor, m) / yarnMagnitude(r.Factor, all)
		}
		r.AttentionFactor = positive(o, "attention_factor", r.AttentionFactor)
	case "llama3":
		r.readOriginal(f, o)
		r.Factor = factor(o, 0)
		r.LowFactor, r.HighFactor = positive(o, "low_freq_factor", 0), positive(o, "high_freq_factor", 0)
		if o.err == nil && r.HighFactor <= r.LowFactor {
			o.fail("high_freq_factor", "is %v; expected more than low_freq_factor, %v", r.HighFactor, r.LowFactor)
		}
	case "longrope":
		r.readOriginal(f, o)
		r.Factor = float64(r.MaxPositions) / float64(r.OriginalPositions)
		if o.has("factor") {
			r.Factor = positive(o, "factor", 0)
		}
		if r.Factor > 1 {
			r.AttentionFactor = math.Sqrt(1 + math.Log(r.Factor)/math.Log(float64(r.OriginalPositions)))
		}
		r.AttentionFactor = positive(o, "attention_factor", r.AttentionFactor)
		r.ShortFactors, r.LongFactors = factors(o, "short_factor", c.HeadDim/2), factors(o, "long_factor", c.HeadDim/2)
	default:
		o.fail("rope_type", "is %q; supported are %s", r.Type, strings.Join(ropeTypes, ", "))
	}
}

var ropeTypes = []string{"default", "linear", "dynamic", "yarn", "llama3", "longrope"}

// readOriginal reads the length of the original training. A key beside rope_scaling takes
// precedence over one in it.
func (r *Rope) readOriginal(f, o *fields) {
	const key = "original_max_position_embeddings"
	r.OriginalPositions = f.int(key, o.int(key, r.MaxPositions, 2, maxLength), 2, maxLength)
	if o.err == nil {
		o.err = f.err
	}
}

// factor reads the factor of the scaling. With a default of 0 it is required.
func factor(o *fields, def float64) float64 {
	x := positive(o, "factor", def)
	if o.err == nil && x < 1 {
		o.fail("factor", "is %v; expected 1 or more", x)
	}
	return x
}

// positive reads a number above 0. A missing one is def, or an error if def is 0.
func positive(o *fields, key string, def float64) float64 {
	x := o.float(key, def)
	switch {
	case o.err != nil:
	case x == 0 && !o.has(key):
		o.fail(key, "is missing")
	case x <= 0:
		o.fail(key, "is %v; expected more than 0", x)
	}
	return x
}

func factors(o *fields, key string, n int) []float64 {
	v := o.floats(key)
	if o.err == nil && len(v) != n {
		o.fail(key, "has %d numbers; expected %d, half of the dimensions that are rotated", len(v), n)
	}
	for i, x := range v {
		if !(x > 0) {
			o.fail(key, "has %v at index %d; expected more than 0", x, i)
		}
	}
	return v
}

// yarnMagnitude is the factor on queries and keys that corrects the temperature of attention.
func yarnMagnitude(factor, m float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*m*math.Log(factor) + 1
}

package ggufmodel

import (
	"math"
	"slices"

	"afmq/pkg/fault"
	"afmq/pkg/gguf"
	"afmq/pkg/model"
)

// readRope reads the rotary embedding: its base, its scaling and the tensors of factors, as
// llama.cpp does (llama_model_base::load_hparams and the constructor of llama_context). There
// linear scaling and factors apply at once; yarn has fixed values of beta_fast, beta_slow and
// truncate.
func readRope(k *keys, c *model.Config, arch Architecture) (model.Rope, error) {
	r := model.Rope{
		Type: "default", Theta: k.float("rope.freq_base", 10_000), Factor: 1, AttentionFactor: 1,
		MaxPositions: c.MaxPositions, OriginalPositions: c.MaxPositions,
	}
	kind := k.string("rope.scaling.type", "linear")
	factor, attention := ropeFactor(k), k.float("rope.scaling.attn_factor", 1)
	if n := k.int("rope.scaling.original_context_length", 0, 0, maxLength); n > 0 {
		r.OriginalPositions = n
	}
	switch {
	case k.err != nil:
	case r.Theta <= 1:
		k.fail("rope.freq_base", "is %v; expected more than 1", r.Theta)
	case attention <= 0:
		k.fail("rope.scaling.attn_factor", "is %v; expected more than 0", attention)
	case !slices.Contains([]string{"none", "linear", "yarn", "longrope"}, kind):
		k.fail("rope.scaling.type", "is %q; supported are none, linear, yarn and longrope", kind)
	}
	if k.err != nil {
		return r, k.err
	}
	if kind == "none" {
		factor = 1
	}
	long, short, err := ropeFactors(k, c, arch)
	if err != nil {
		return r, err
	}
	switch {
	case kind == "yarn" && long != nil:
		return r, fault.Inputf(k.file.Path(), "tensor %q together with yarn is not supported", RopeFreqs)
	case kind == "yarn":
		return readYarn(k, r, factor, attention)
	case long == nil && attention == 1 && factor == 1:
		return r, nil
	case long == nil && attention == 1:
		r.Type, r.Factor = "linear", factor
		return r, nil
	}
	// Factors for every length are those of longrope with two equal lists.
	r.Type, r.AttentionFactor = "longrope", attention
	r.LongFactors, r.ShortFactors = times(long, factor, c.HeadDim/2), times(short, factor, c.HeadDim/2)
	return r, nil
}

// ropeFactor reads the factor of linear scaling and yarn. 0 stands for none.
func ropeFactor(k *keys) float64 {
	name := "rope.scaling.factor"
	if !k.has(name) {
		name = "rope.scale_linear" // in old files
	}
	f := k.float(name, 1)
	if f == 0 {
		return 1
	}
	if f < 1 {
		k.fail(name, "is %v; expected 1 or more", f)
	}
	return f
}

// readYarn sets the parameters of yarn.
func readYarn(k *keys, r model.Rope, factor, attention float64) (model.Rope, error) {
	for _, x := range []struct {
		name string
		only float64
	}{{"yarn_ext_factor", 1}, {"yarn_beta_fast", 32}, {"yarn_beta_slow", 1}, {"yarn_log_multiplier", 0}} {
		// llama.cpp does not read these for the supported architectures.
		if v := k.float("rope.scaling."+x.name, x.only); v != x.only {
			k.fail("rope.scaling."+x.name, "is %v; only %v is supported, with which llama.cpp runs this architecture", v, x.only)
		}
	}
	if r.OriginalPositions < 2 {
		k.fail("rope.scaling.original_context_length", "is %d; expected 2 or more", r.OriginalPositions)
	}
	r.Type, r.Factor, r.BetaFast, r.BetaSlow, r.Truncate = "yarn", factor, 32, 1, true
	r.AttentionFactor = attention * (1 + 0.1*math.Log(factor))
	return r, k.err
}

// ropeFactors reads the tensors of factors, [head_dim/2]. They are nil if there are none.
func ropeFactors(k *keys, c *model.Config, arch Architecture) (long, short []float64, err error) {
	switch names := arch.factorTensors(k.file); {
	case names == nil:
		return nil, nil, nil // such a tensor is refused as one that is not part of the model
	case len(names) == 2:
		if long, err = readFactors(k, RopeFactorsLong, c.HeadDim/2); err == nil {
			short, err = readFactors(k, RopeFactorsShort, c.HeadDim/2)
		}
		if err == nil && (long == nil || short == nil) {
			err = fault.Inputf(k.file.Path(), "tensor %q or %q is missing, which longrope needs", RopeFactorsLong, RopeFactorsShort)
		}
		return long, short, err
	}
	long, err = readFactors(k, RopeFreqs, c.HeadDim/2)
	return long, long, err
}

// factorTensors returns the names of the tensors of factors that a file of the architecture may
// have.
func (a *Architecture) factorTensors(f *gguf.File) []string {
	kind, _ := f.Value(a.Name + ".rope.scaling.type")
	switch {
	case !a.RopeFactors:
		return nil
	case kind == "longrope":
		return []string{RopeFactorsLong, RopeFactorsShort}
	}
	return []string{RopeFreqs}
}

// readFactors reads a tensor of n factors, nil if there is none.
func readFactors(k *keys, name string, n int) ([]float64, error) {
	t, ok := k.file.Tensor(name)
	if !ok {
		return nil, nil
	}
	if !slices.Equal(t.Shape, []int{n}) || !t.Type.Converts() {
		return nil, fault.Inputf(k.file.Path(), "tensor %q is %v of shape %v; expected F32 of shape [%d]", name, t.Type, t.Shape, n)
	}
	values := make([]float32, n)
	if err := t.Float32(values, 0); err != nil {
		return nil, err
	}
	out := make([]float64, n)
	for i, x := range values {
		if !(x > 0) || math.IsInf(float64(x), 0) {
			return nil, fault.Inputf(k.file.Path(), "tensor %q has %v at index %d; expected a finite number above 0", name, x, i)
		}
		out[i] = float64(x)
	}
	return out, nil
}

// times returns n factors multiplied by f; nil stands for ones.
func times(factors []float64, f float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = f
		if factors != nil {
			out[i] *= factors[i]
		}
	}
	return out
}

package main

import (
	"github.com/spf13/pflag"

	"afmq/pkg/fault"
	"afmq/pkg/recovery"
)

// trainingFlags are the flags that recover and tune share, as they are given.
type trainingFlags struct {
	tokens, batchTokens, validation string
	loss                            string
}

// trainingTargets are what flags of training set.
type trainingTargets struct {
	teacher                         *string
	data                            *[]string
	mix, temperature                *float64
	rate, warmup, clip              *float64
	seqLen                          *int
	seed                            *int64
	recompute, restart              *bool
	defaultRate                     float64
	rateHelp, tokensHelp, batchHelp string
	seedHelp                        string
}

func (t *trainingFlags) register(f *pflag.FlagSet, to trainingTargets) {
	f.StringVar(to.teacher, "teacher", "", "the 16-bit checkpoint `MODEL` that the artifact was made from")
	f.StringArrayVar(to.data, "data", nil, "`FILE` of text to train on (.jsonl, text, or token ids as .safetensors); repeatable")
	f.StringVar(&t.tokens, "tokens", "2M", to.tokensHelp)
	f.StringVar(&t.loss, "loss", string(recovery.LossKL), "`LOSS`: kl, ce or mix")
	f.Float64Var(to.mix, "mix", recovery.DefaultMix, "`SHARE` of the divergence in --loss mix, above 0 and at most 1")
	f.Float64Var(to.temperature, "temperature", 1, "temperature `T`: divides the logits of both models in the divergence")
	f.Float64Var(to.rate, "rate", to.defaultRate, to.rateHelp)
	f.Float64Var(to.warmup, "warmup", recovery.DefaultWarmup, "`SHARE` of the steps over which the rate rises linearly; 0 for none")
	f.Float64Var(to.clip, "clip", recovery.DefaultClip, "largest `NORM` of the gradient; 0 for no clipping")
	f.StringVar(&t.batchTokens, "batch-tokens", "", to.batchHelp)
	f.IntVar(to.seqLen, "seq-len", 0, "`N` tokens in a sequence (default: min(512, max_position_embeddings))")
	f.StringVar(&t.validation, "validation-tokens", "", "`N` tokens to hold out for validation, and as many for test (default: a tenth of the text, at most 32768)")
	f.Int64Var(to.seed, "seed", 0, to.seedHelp)
	f.BoolVar(to.recompute, "recompute", false, "recompute each layer in the backward pass: less memory, more time, the same bytes")
	f.BoolVar(to.restart, "restart", false, "discard the state of an interrupted run")
}

// check refuses values that the library would take for its defaults, and flags without effect. Others
// are names of flags that must not be 0.
func (t *trainingFlags) check(f *pflag.FlagSet, others ...string) error {
	for _, flag := range append([]string{"rate", "mix", "temperature"}, others...) {
		if v, _ := f.GetFloat64(flag); f.Changed(flag) && v == 0 {
			return fault.Usagef("--%s 0: expected a positive number", flag)
		}
	}
	for _, flag := range []string{"warmup", "clip"} {
		if v, _ := f.GetFloat64(flag); v < 0 {
			return fault.Usagef("--%s %v: expected a number of at least 0", flag, v)
		}
	}
	loss := recovery.Loss(t.loss)
	switch n, _ := f.GetInt("seq-len"); {
	case f.Changed("seq-len") && n < 2:
		return fault.Usagef("--seq-len %d: a sequence has at least 2 tokens", n)
	case f.Changed("mix") && loss != recovery.LossMix:
		return fault.Usagef("--mix has no meaning with --loss %s", loss)
	case f.Changed("temperature") && loss == recovery.LossCE:
		return fault.Usagef("--temperature has no meaning with --loss ce")
	}
	return nil
}

// count is a flag for a number of tokens.
type count struct {
	flag, text string
	set        func(int64)
}

// setCounts reads numbers of tokens; an empty one leaves the library's default.
func setCounts(counts []count) error {
	for _, c := range counts {
		if c.text == "" {
			continue
		}
		n, err := parseCount(c.flag, c.text)
		if err != nil {
			return err
		}
		if n > 1<<40 || c.flag != "tokens" && n > 1<<30 {
			return fault.Usagef("--%s %s is out of range", c.flag, c.text)
		}
		c.set(n)
	}
	return nil
}

// noneFor sets rates of 0 to the library's value for none, which is negative.
func noneFor(values ...*float64) {
	for _, v := range values {
		if *v == 0 {
			*v = -1
		}
	}
}

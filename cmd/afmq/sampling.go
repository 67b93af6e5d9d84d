package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"afmq/pkg/fault"
	"afmq/pkg/infer"
)

// samplingFlags say how tokens are chosen and when an answer ends.
type samplingFlags struct {
	maxTokens   string // a count
	temperature float64
	topK        int
	topP        float64
	seed        uint64
	stops       []string
}

func (s *samplingFlags) register(f *pflag.FlagSet, maxTokens string, temperature float64) {
	f.StringVar(&s.maxTokens, "max-tokens", maxTokens, "generate at most `N` tokens; the model's context is a limit, too")
	f.Float64Var(&s.temperature, "temperature", temperature, "divide the logits by `T`: 0 takes the most likely token, 1 samples from the model's distribution")
	f.IntVar(&s.topK, "top-k", 0, "sample among the `K` most likely tokens (default: all)")
	f.Float64Var(&s.topP, "top-p", 1, "sample among the most likely tokens that together have probability `P`")
	f.Uint64Var(&s.seed, "seed", 0, "`SEED` of the random numbers of sampling")
	f.StringArrayVar(&s.stops, "stop", nil, "end before `TEXT`; repeatable")
}

// maxTemperature is the largest temperature in use: services of language models accept up to 2.
const maxTemperature = 2

// check checks the flags, and returns the number of tokens to generate at most.
func (s *samplingFlags) check(a *app) (int, error) {
	switch {
	case !(s.temperature >= 0) || s.temperature > 100:
		return 0, fault.Usagef("--temperature %v is not between 0 and 100", s.temperature)
	case s.topK < 0:
		return 0, fault.Usagef("--top-k %d is negative", s.topK)
	case s.topP > 1 && s.topP <= 100:
		return 0, fault.Usagef("--top-p %v is not above 0 and at most 1", s.topP).WithHint("%v %% is %v", s.topP, s.topP/100)
	case !(s.topP > 0 && s.topP <= 1):
		return 0, fault.Usagef("--top-p %v is not above 0 and at most 1", s.topP)
	}
	for _, text := range s.stops {
		if text == "" {
			return 0, fault.Usagef("--stop is empty")
		}
	}
	if s.temperature > maxTemperature {
		a.warn([]string{fmt.Sprintf("--temperature %v makes all tokens nearly equally likely; usual are 0.5 to 1.5", s.temperature)})
	}
	n, err := parseCount("max-tokens", s.maxTokens)
	return int(n), err
}

// sampler returns a sampler of its own for an answer, with the seed that is so many after --seed.
func (s *samplingFlags) sampler(after uint64) infer.Sampler {
	out := infer.Sampler{Temperature: s.temperature, TopK: s.topK, TopP: s.topP}
	out.Seed(s.seed + after)
	return out
}

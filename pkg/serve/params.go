package serve

import (
	"encoding/json"

	"afmq/pkg/infer"
)

// sampling is what requests of completions and of chat completions have in common.
type sampling struct {
	Model         string         `json:"model"`
	Temperature   *float64       `json:"temperature"`
	TopP          *float64       `json:"top_p"`
	TopK          *int           `json:"top_k"`
	Seed          *int64         `json:"seed"`
	Stop          stops          `json:"stop"`
	N             *int           `json:"n"`
	Stream        bool           `json:"stream"`
	StreamOptions *streamOptions `json:"stream_options"`
	IgnoreEOS     bool           `json:"ignore_eos"`

	// Fields that change the answer and are not there: only values without an effect are taken.
	PresencePenalty  *float64                   `json:"presence_penalty"`
	FrequencyPenalty *float64                   `json:"frequency_penalty"`
	LogitBias        map[string]json.RawMessage `json:"logit_bias"`

	// Fields that change nothing in the answer.
	User     json.RawMessage `json:"user"`
	Metadata json.RawMessage `json:"metadata"`
	Store    json.RawMessage `json:"store"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
	// IncludeObfuscation pads the chunks of OpenAI's server; here it has no effect.
	IncludeObfuscation bool `json:"include_obfuscation"`
}

// maxN is the largest number of answers to a prompt; that of OpenAI's API.
const maxN = 128

func (p *sampling) check() error {
	if p.Temperature != nil {
		if err := between("temperature", *p.Temperature, 0, 2.0); err != nil {
			return err
		}
	}
	if p.TopP != nil && !(*p.TopP > 0 && *p.TopP <= 1) {
		return invalid("top_p", "top_p is %v; expected a number above 0 and at most 1", *p.TopP)
	}
	if p.TopK != nil && *p.TopK < -1 {
		return invalid("top_k", "top_k is %d; expected a number of tokens, or 0 or -1 for all", *p.TopK)
	}
	if p.N != nil {
		if err := between("n", *p.N, 1, maxN); err != nil {
			return err
		}
	}
	if p.StreamOptions != nil && !p.Stream {
		return invalid("stream_options", "stream_options needs stream")
	}
	if p.PresencePenalty != nil && *p.PresencePenalty != 0 {
		return unsupported("presence_penalty")
	}
	if p.FrequencyPenalty != nil && *p.FrequencyPenalty != 0 {
		return unsupported("frequency_penalty")
	}
	if len(p.LogitBias) > 0 {
		return unsupported("logit_bias")
	}
	return nil
}

// unsupported is the error of a parameter that the server cannot follow.
func unsupported(param string) error {
	return newError(400, "invalid_request_error", param, "unsupported_parameter", "%s is not supported by this server", param)
}

// n returns the number of answers to a prompt.
func (p *sampling) n() int {
	if p.N == nil {
		return 1
	}
	return *p.N
}

// sampler returns the sampler of answer i. Answers to a prompt have seeds of their own.
func (p *sampling) sampler(i int) infer.Sampler {
	s := infer.Sampler{Temperature: 1}
	if p.Temperature != nil {
		s.Temperature = *p.Temperature
	}
	if p.TopP != nil {
		s.TopP = *p.TopP
	}
	if p.TopK != nil {
		s.TopK = max(*p.TopK, 0)
	}
	seed := uint64(0)
	if p.Seed != nil {
		seed = uint64(*p.Seed)
	}
	s.Seed(seed + uint64(i)<<32)
	return s
}

// named returns the model of a request; an empty name is the base.
func (s *Server) named(name string) (*infer.Model, string, error) {
	if name == "" {
		name = s.opts.Name
	}
	if m, ok := s.models[name]; ok {
		return m, name, nil
	}
	return nil, "", newError(404, "invalid_request_error", "model", "model_not_found",
		"the model %q does not exist; there are %q", name, s.Models())
}

// adapterNames returns the names of the adapters, in the order in which they were given.
func (s *Server) adapterNames() []string {
	names := make([]string, len(s.opts.Adapters))
	for i, a := range s.opts.Adapters {
		names[i] = a.Name
	}
	return names
}

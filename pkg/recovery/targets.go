package recovery

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"afmq/pkg/adapter"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// RankPattern sets the rank of the modules whose names the regular expression Pattern matches.
type RankPattern struct {
	Pattern string `json:"pattern"`
	Rank    int    `json:"rank"`
}

// ParseRankPattern reads "REGEX=RANK", divided at the last equals sign. Errors are fault.Usage.
func ParseRankPattern(s string) (RankPattern, error) {
	i := strings.LastIndexByte(s, '=')
	if i <= 0 {
		return RankPattern{}, fault.Usagef("rank pattern %q: expected REGEX=RANK, for example 'down_proj=32'", s)
	}
	rank, err := strconv.Atoi(strings.TrimSpace(s[i+1:]))
	if err != nil || rank < 1 {
		return RankPattern{}, fault.Usagef("rank pattern %q: %q is not a rank", s, s[i+1:])
	}
	if _, err := regexp.Compile(s[:i]); err != nil {
		return RankPattern{}, fault.Usagef("rank pattern %q: %v", s, err)
	}
	return RankPattern{s[:i], rank}, nil
}

// configs returns the configuration of each adapter, in the order of Ranks.
func (o *Options) configs(cfg *model.Config) ([]*adapter.Config, error) {
	modules, err := o.modules(cfg)
	if err != nil {
		return nil, err
	}
	shapes := map[string][]int{}
	for _, spec := range cfg.Tensors() {
		shapes[spec.Module()] = spec.Shape
	}
	var out []*adapter.Config
	for _, rank := range o.Ranks {
		c := &adapter.Config{Rank: rank, Alpha: o.Alpha, RSLoRA: o.RSLoRA, Modules: modules, Ranks: map[string]int{}, Alphas: map[string]float64{}}
		if c.Alpha == 0 {
			c.Alpha = float64(rank)
		}
		for _, p := range o.Pattern {
			re, err := regexp.Compile(p.Pattern)
			if err != nil {
				return nil, fault.Usagef("rank pattern %q: %v", p.Pattern, err)
			}
			hit := false
			for _, m := range modules {
				if !re.MatchString(m) {
					continue
				}
				hit = true
				delete(c.Ranks, m)
				if p.Rank != rank {
					c.Ranks[m] = p.Rank
				}
			}
			if !hit {
				return nil, fault.Usagef("rank pattern %q matches no adapted module", p.Pattern)
			}
		}
		for _, m := range modules {
			if r, most := c.RankOf(m), slices.Min(shapes[m]); r > most {
				return nil, fault.Usagef("rank %d is more than %s can have: %d", r, m, most)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// modules returns the names of the projections that Targets select, in the model's order.
func (o *Options) modules(cfg *model.Config) ([]string, error) {
	var patterns []*regexp.Regexp
	for _, t := range o.Targets {
		re, err := regexp.Compile(t)
		if err != nil {
			return nil, fault.Usagef("target %q: %v", t, err)
		}
		patterns = append(patterns, re)
	}
	hits := make([]bool, len(patterns))
	var out []string
	for _, spec := range cfg.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		name, chosen := spec.Module(), len(patterns) == 0
		for i, re := range patterns {
			if re.MatchString(name) {
				chosen, hits[i] = true, true
			}
		}
		if chosen {
			out = append(out, name)
		}
	}
	if i := slices.Index(hits, false); i >= 0 {
		return nil, fault.Usagef("target %q matches no projection; their names are like %s", o.Targets[i], cfg.Tensors()[2].Module())
	}
	return out, nil
}

package adapter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// adapterFields are the keys of adapter_config.json that this package reads.
type adapterFields struct {
	PEFTType          string          `json:"peft_type"`
	TaskType          *string         `json:"task_type"`
	R                 int             `json:"r"`
	Alpha             *float64        `json:"lora_alpha"`
	Targets           json.RawMessage `json:"target_modules"`
	Exclude           json.RawMessage `json:"exclude_modules"`
	RSLoRA            bool            `json:"use_rslora"`
	RankPattern       json.RawMessage `json:"rank_pattern"`
	AlphaPattern      json.RawMessage `json:"alpha_pattern"`
	LayersToTransform json.RawMessage `json:"layers_to_transform"`
	LayersPattern     json.RawMessage `json:"layers_pattern"`
	Bias              *string         `json:"bias"`
	Init              json.RawMessage `json:"init_lora_weights"`
}

// adapterRead are the keys of adapterFields; adapterIdle those that change nothing
// when an adapter is applied, whatever their value.
var (
	adapterRead = []string{"peft_type", "task_type", "r", "lora_alpha", "target_modules", "exclude_modules", "use_rslora",
		"rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern", "bias", "init_lora_weights"}
	adapterIdle = []string{"auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "lora_dropout",
		"megatron_core", "peft_version", "qalora_group_size", "runtime_config", "ensure_weight_tying"}
)

// maxRank is the largest rank that is read, far above that of any useful adapter.
const maxRank = 1 << 16

// ParseConfig parses an adapter_config.json that PEFT wrote. It refuses every option that changes
// the result and is not plain LoRA of the model's projections: DoRA, modules_to_save, a bias, an
// adapted embedding, an initialization that changes the base, and any unknown option that is set.
// Errors are of kind [fault.Input] and name file.
func ParseConfig(file string, data []byte, cfg *model.Config) (*Config, error) {
	bad := func(format string, args ...any) (*Config, error) {
		// Names and patterns are from the file; the message must be one line.
		return nil, fault.Inputf(file, "%s", strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, fmt.Sprintf(format, args...)))
	}
	if !utf8.Valid(data) {
		return bad("is not valid UTF-8")
	}
	if err := infile.CheckJSON(data); err != nil {
		return bad("%v", err)
	}
	var all map[string]json.RawMessage
	var f adapterFields
	if err := json.Unmarshal(data, &all); err != nil {
		return bad("not an adapter's configuration: %v", err)
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return bad("not an adapter's configuration: %v", err)
	}
	if f.PEFTType != "LORA" {
		return bad("peft_type is %q; only LORA is supported", f.PEFTType)
	}
	keys := make([]string, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !slices.Contains(adapterRead, k) && !slices.Contains(adapterIdle, k) && !idle(all[k]) {
			return bad("%s is %s, which is not supported", k, brief(all[k]))
		}
	}
	switch {
	case f.TaskType != nil && *f.TaskType != "CAUSAL_LM":
		return bad("task_type is %q; only CAUSAL_LM is supported", *f.TaskType)
	case f.Bias != nil && *f.Bias != "none":
		return bad("bias is %q; only none is supported", *f.Bias)
	case f.R < 1 || f.R > maxRank:
		return bad("r is %d; expected 1 to %d", f.R, maxRank)
	}
	switch init := string(f.Init); init {
	case "", "null", "true", "false", `"gaussian"`, `"orthogonal"`, `"eva"`:
	default: // pissa, olora, corda, loftq: they train on a base other than the one that was loaded
		return bad("init_lora_weights is %s, which changes the base model", brief(f.Init))
	}
	c := &Config{Rank: f.R, Alpha: 8, RSLoRA: f.RSLoRA, Ranks: map[string]int{}, Alphas: map[string]float64{}}
	if f.Alpha != nil { // PEFT's default is 8
		c.Alpha = *f.Alpha
	}
	if !usableAlpha(c.Alpha) {
		return bad("lora_alpha is %v; expected a number of at most 1e6 in magnitude", c.Alpha)
	}
	if err := c.choose(&f, cfg); err != nil {
		return bad("%v", err)
	}
	if err := c.patterns(&f); err != nil {
		return bad("%v", err)
	}
	return c, nil
}

func usableAlpha(a float64) bool { return math.Abs(a) <= 1e6 }

// idle reports whether a value is that of an unset option.
func idle(v json.RawMessage) bool {
	var b bytes.Buffer
	if json.Compact(&b, v) != nil {
		return false
	}
	switch b.String() {
	case "null", "false", "{}", "[]", `""`:
		return true
	}
	return false
}

// brief returns a value, shortened for a message.
func brief(v json.RawMessage) string {
	if len(v) > 60 {
		return strings.ToValidUTF8(string(v[:60]), "") + "…"
	}
	return string(v)
}

// Encode returns the adapter_config.json of an adapter for a model of config cfg.
func (c *Config) Encode(cfg *model.Config) []byte {
	type pair = map[string]any
	ranks, alphas := pair{}, pair{}
	for m, r := range c.Ranks {
		ranks[regexp.QuoteMeta(m)] = r
	}
	for m, a := range c.Alphas {
		alphas[regexp.QuoteMeta(m)] = a
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(pair{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": nil, "inference_mode": true,
		"r": c.Rank, "lora_alpha": json.Number(strconv.FormatFloat(c.Alpha, 'f', -1, 64)), "lora_dropout": 0.0, "use_rslora": c.RSLoRA,
		"rank_pattern": ranks, "alpha_pattern": alphas, "target_modules": c.targets(cfg),
		"bias": "none", "fan_in_fan_out": false, "use_dora": false, "modules_to_save": nil, "init_lora_weights": true,
	})
	if err != nil {
		panic(err) // unreachable: the values are numbers and strings
	}
	return b.Bytes()
}

// targets returns target_modules: the kinds of which all modules are adapted, and the full names
// of the other modules.
func (c *Config) targets(cfg *model.Config) []string {
	kinds := map[string]bool{} // whether all modules of the kind are adapted
	var order []string
	for _, spec := range cfg.Tensors() {
		if spec.Role != model.Projection {
			continue
		}
		here := slices.Contains(c.Modules, spec.Module())
		if was, seen := kinds[spec.Kind]; !seen {
			kinds[spec.Kind] = here
			order = append(order, spec.Kind)
		} else {
			kinds[spec.Kind] = was && here
		}
	}
	out := []string{}
	for _, k := range order {
		if kinds[k] {
			out = append(out, k)
		}
	}
	for _, m := range c.Modules {
		if !kinds[m[strings.LastIndexByte(m, '.')+1:]] {
			out = append(out, m)
		}
	}
	return out
}

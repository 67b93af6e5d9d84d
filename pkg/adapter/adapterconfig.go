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

// maxRank bounds what a file may ask for: no adapter of use comes near it.
const maxRank = 1 << 16

// ParseAdapterConfig reads adapter_config.json as PEFT writes it; file names it in
// errors, which are fault.Input. What would change the result and is not a plain LoRA
// of the model's projections (DoRA, modules_to_save, a bias, an adapted embedding, a
// base that the initialization changed, any other option that is set) is refused by
// name.
func ParseConfig(file string, data []byte, cfg *model.Config) (*Config, error) {
	bad := func(format string, args ...any) (*Config, error) {
		// Names and patterns come from the file; the message stays one line.
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
		return bad("r is %d; a rank is 1 to %d", f.R, maxRank)
	}
	switch init := string(f.Init); init {
	case "", "null", "true", "false", `"gaussian"`, `"orthogonal"`, `"eva"`:
	default: // pissa, olora, corda, loftq: the base that these train on is not the one that was loaded
		return bad("init_lora_weights is %s, which changes the base model", brief(f.Init))
	}
	c := &Config{Rank: f.R, Alpha: 8, RSLoRA: f.RSLoRA, Ranks: map[string]int{}, Alphas: map[string]float64{}}
	if f.Alpha != nil { // PEFT's default is 8
		c.Alpha = *f.Alpha
	}
	if !usableAlpha(c.Alpha) {
		return bad("lora_alpha is %v, which is no factor", c.Alpha)
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

// idle reports whether a value leaves an option unset.
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

// brief is a value cut to the length of a message.
func brief(v json.RawMessage) string {
	if len(v) > 60 {
		return strings.ToValidUTF8(string(v[:60]), "") + "…"
	}
	return string(v)
}

// choose finds the modules that target_modules and the keys beside it name.
func (c *Config) choose(f *adapterFields, cfg *model.Config) error {
	target, err := matcher("target_modules", f.Targets)
	if err != nil {
		return err
	}
	if target == nil {
		return fmt.Errorf("target_modules names no module")
	}
	exclude, err := matcher("exclude_modules", f.Exclude)
	if err != nil {
		return err
	}
	layers, err := layerSet(f)
	if err != nil {
		return err
	}
	allLinear := string(f.Targets) == `"all-linear"`
	for _, spec := range cfg.Tensors() {
		name := spec.Module()
		hit := target(name) || allLinear && spec.Role == model.Projection
		if !hit || exclude != nil && exclude(name) {
			continue
		}
		switch {
		case spec.Role == model.Bias:
		case spec.Role != model.Projection:
			return fmt.Errorf("it adapts %s; only the projections of attention and feed-forward are supported", name)
		case layers == nil || slices.Contains(layers, spec.Layer):
			c.Modules = append(c.Modules, name)
		}
	}
	if len(c.Modules) == 0 {
		return fmt.Errorf("target_modules %s matches no projection of the model", brief(f.Targets))
	}
	return nil
}

// matcher reads a list of names, each a module's or the end of one, or one regular
// expression for whole names. It returns nil where there is nothing.
func matcher(key string, v json.RawMessage) (func(module string) bool, error) {
	if len(v) == 0 || idle(v) {
		return nil, nil
	}
	var names []string
	if json.Unmarshal(v, &names) == nil {
		return func(module string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return module == n || strings.HasSuffix(module, "."+n) })
		}, nil
	}
	var pattern string
	if err := json.Unmarshal(v, &pattern); err != nil {
		return nil, fmt.Errorf("%s is neither a list of names nor a regular expression", key)
	}
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", key, err)
	}
	return re.MatchString, nil
}

// layerSet returns the layers that layers_to_transform leaves; nil for all.
func layerSet(f *adapterFields) ([]int, error) {
	if v := f.LayersPattern; len(v) > 0 && !idle(v) && string(v) != `"layers"` && string(v) != `["layers"]` {
		return nil, fmt.Errorf("layers_pattern is %s; the layers of this model are called layers", brief(v))
	}
	if len(f.LayersToTransform) == 0 || string(f.LayersToTransform) == "null" {
		return nil, nil
	}
	var one int
	if json.Unmarshal(f.LayersToTransform, &one) == nil {
		return []int{one}, nil
	}
	layers := []int{}
	if err := json.Unmarshal(f.LayersToTransform, &layers); err != nil {
		return nil, fmt.Errorf("layers_to_transform is %s, which is no list of layers", brief(f.LayersToTransform))
	}
	return layers, nil
}

// patterns applies rank_pattern and alpha_pattern: regular expressions for the end of a
// module's name, the first that matches counts.
func (c *Config) patterns(f *adapterFields) error {
	err := eachPattern("rank_pattern", f.RankPattern, c.Modules, func(module string, v float64) error {
		if v < 1 || v > maxRank || v != math.Trunc(v) {
			return fmt.Errorf("%v is no rank", v)
		}
		c.Ranks[module] = int(v)
		return nil
	})
	if err != nil {
		return err
	}
	return eachPattern("alpha_pattern", f.AlphaPattern, c.Modules, func(module string, v float64) error {
		if !usableAlpha(v) {
			return fmt.Errorf("%v is no factor", v)
		}
		c.Alphas[module] = v
		return nil
	})
}

// maxPatterns bounds rank_pattern and alpha_pattern, where each module may stand by name.
const maxPatterns = 4096

func eachPattern(key string, v json.RawMessage, modules []string, set func(module string, v float64) error) error {
	if len(v) == 0 || idle(v) {
		return nil
	}
	// The order of an object's members counts here, so it is read member by member.
	d := json.NewDecoder(bytes.NewReader(v))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%s is %s, which is no object", key, brief(v))
	}
	count, done := 0, map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return fmt.Errorf("%s: %v", key, err)
		}
		var value float64
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("%s: %v", key, err)
		}
		if count++; count > maxPatterns {
			return fmt.Errorf("%s has more than %d patterns", key, maxPatterns)
		}
		// An expression takes some hundred times its text, so none is kept.
		re, err := regexp.Compile(fmt.Sprintf(`^(?:.*\.)?(?:%v)$`, name))
		if err != nil {
			return fmt.Errorf("%s: %v", key, err)
		}
		for _, m := range modules {
			if done[m] || !re.MatchString(m) {
				continue
			}
			done[m] = true
			if err := set(m, value); err != nil {
				return fmt.Errorf("%s: %s: %v", key, m, err)
			}
		}
	}
	return nil
}

// Encode returns adapter_config.json for the adapter of a model of this config.
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
		panic(err) // of numbers and strings alone
	}
	return b.Bytes()
}

// targets names the modules as briefly as target_modules allows: by kind where all
// modules of a kind are adapted, else each by its whole name.
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

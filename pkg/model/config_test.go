package model

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// base is a config that every family accepts.
func base(modelType string) map[string]any {
	return map[string]any{
		"model_type": modelType, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
		"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100,
		"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512, "sliding_window": nil,
	}
}

func with(m map[string]any, pairs ...any) map[string]any {
	out := maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

func without(m map[string]any, keys ...string) map[string]any {
	out := maps.Clone(m)
	for _, k := range keys {
		delete(out, k)
	}
	return out
}

func parse(t *testing.T, m map[string]any) (*Config, error) {
	t.Helper()
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return ParseConfig("config.json", data)
}

func mustParse(t *testing.T, m map[string]any) *Config {
	t.Helper()
	c, err := parse(t, m)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// object is a JSON object in a table.
type object = map[string]any

// What the engine does not do is refused by name, with the file and the key.
func TestConfigRefuses(t *testing.T) {
	llama, mistral, qwen2, qwen3 := base("llama"), base("mistral"), base("qwen2"), base("qwen3")
	smollm3, granite, olmo3 := base("smollm3"), base("granite"), with(base("olmo3"), "sliding_window", 8)
	gemma2, gemma3 := with(base("gemma2"), "dtype", "bfloat16", "sliding_window", 8), with(base("gemma3_text"), "dtype", "bfloat16", "sliding_window", 8)
	phi3 := base("phi3")
	long := object{"rope_type": "longrope", "short_factor": make([]float64, 8), "long_factor": []float64{1}}
	for name, tc := range map[string]struct {
		config map[string]any
		want   string
	}{
		"no family":           {without(llama, "model_type"), `"model_type" is missing`},
		"unknown family":      {with(llama, "model_type", "gpt2"), `"gpt2" is not supported`},
		"mixture of experts":  {with(llama, "model_type", "mixtral", "num_local_experts", 8), "mixture of experts"},
		"experts in a family": {with(qwen3, "num_experts", 4), "mixture of experts"},
		"no hidden size":      {without(llama, "hidden_size"), `"hidden_size" is missing`},
		"no layers":           {without(llama, "num_hidden_layers"), `"num_hidden_layers" is missing`},
		"no vocabulary":       {with(llama, "vocab_size", nil), `"vocab_size" is missing`},
		"negative":            {with(llama, "vocab_size", -5), `"vocab_size" is -5`},
		"fraction":            {with(llama, "hidden_size", 64.5), `"hidden_size" is 64.5`},
		"text for a number":   {with(llama, "hidden_size", "64"), `"hidden_size" is "64"`},
		"too many layers":     {with(llama, "num_hidden_layers", 1<<40), `"num_hidden_layers"`},
		"heads":               {with(llama, "num_key_value_heads", 3), "is not a multiple"},
		"hidden and heads":    {without(with(llama, "num_attention_heads", 5, "num_key_value_heads", 5), "head_dim"), "is not a multiple"},
		"odd head":            {with(llama, "head_dim", 15), "even"},
		"activation":          {with(llama, "hidden_act", "gelu"), `"hidden_act" is "gelu"`},
		"another class":       {with(llama, "architectures", []string{"LlamaForSequenceClassification"}), "LlamaForSequenceClassification"},
		"eos beyond":          {with(llama, "eos_token_id", 100), "has token id 100"},
		"several bos":         {with(llama, "bos_token_id", []int{1, 2}), "names 2 tokens"},
		"partial rotation":    {with(llama, "partial_rotary_factor", 0.5), "partial_rotary_factor"},
		"other quantizer":     {with(llama, "quantization_config", object{"quant_method": "gptq", "bits": 4}), `"gptq"`},
		"newer artifact":      {with(llama, "quantization_config", object{"quant_method": "afmq", "version": 2, "bits": 4, "group_rows": 16}), "version 1"},
		"palette of 9 bits":   {with(llama, "quantization_config", object{"quant_method": "afmq", "version": 1, "bits": 9, "group_rows": 16}), "quantization_config.bits"},
		"module without bits": {with(llama, "quantization_config", object{"quant_method": "afmq", "version": 1, "bits": 4, "group_rows": 16, "modules": object{"m": object{}}}), "quantization_config.modules.m.bits"},
		"compressed tensors":  {with(llama, "compression_config", object{}), "compression_config"},

		"no theta in qwen2":     {without(qwen2, "rope_theta"), "rope_theta"},
		"no theta in qwen3":     {without(qwen3, "rope_theta"), "rope_theta"},
		"theta of 0":            {with(llama, "rope_theta", 0.5), "rope_theta"},
		"unknown rope":          {with(llama, "rope_scaling", object{"type": "su", "factor": 2}), `"su"`},
		"unknown rope, newer":   {with(llama, "rope_parameters", object{"rope_type": "proportional"}), `"proportional"`},
		"several ropes":         {with(qwen3, "rope_parameters", object{"full_attention": object{}}), "full_attention"},
		"mrope":                 {with(qwen2, "rope_scaling", object{"rope_type": "default", "mrope_section": []int{1}}), "mrope_section"},
		"linear without":        {with(llama, "rope_scaling", object{"type": "linear"}), `"rope_scaling.factor" is missing`},
		"shrinking":             {with(llama, "rope_scaling", object{"type": "dynamic", "factor": 0.5}), "1 or more"},
		"llama3 without":        {with(llama, "rope_scaling", object{"rope_type": "llama3", "factor": 8, "high_freq_factor": 4}), "low_freq_factor"},
		"llama3 upside down":    {with(llama, "rope_scaling", object{"rope_type": "llama3", "factor": 8, "high_freq_factor": 1, "low_freq_factor": 4}), "high_freq_factor"},
		"longrope zeros":        {with(llama, "rope_scaling", long), "has 0 at index 0"},
		"longrope short":        {with(llama, "rope_scaling", with(long, "short_factor", []float64{1})), "has 1 numbers; expected 8"},
		"yarn, negative":        {with(llama, "rope_scaling", object{"type": "yarn", "factor": 4, "beta_fast": -1}), "beta_fast"},
		"yarn without factor":   {with(llama, "rope_scaling", object{"type": "yarn"}), `"rope_scaling.factor" is missing`},
		"rope not an object":    {with(llama, "rope_scaling", 3), "rope_scaling"},
		"mistral window of 0":   {with(mistral, "sliding_window", 0), `"sliding_window" is 0, but layer 0 uses it`},
		"negative window":       {with(mistral, "sliding_window", -1), "sliding_window"},
		"qwen window of 0":      {with(qwen2, "sliding_window", 0, "use_sliding_window", true, "max_window_layers", 2), "layer 2 uses it"},
		"layer types, not on":   {with(qwen3, "sliding_window", 256, "layer_types", []string{"full_attention", "sliding_attention", "full_attention"}), "use_sliding_window"},
		"layer types, null":     {with(qwen3, "use_sliding_window", true, "layer_types", []string{"full_attention", "full_attention", "sliding_attention"}), "for layer 2"},
		"mistral, null":         {with(mistral, "layer_types", []string{"full_attention", "sliding_attention", "full_attention"}), "sliding_window is null"},
		"unknown layer type":    {with(qwen3, "sliding_window", 256, "layer_types", []string{"linear_attention"}), "linear_attention"},
		"chunked layer":         {with(mistral, "sliding_window", 256, "layer_types", []string{"sliding_attention", "chunked_attention", "full_attention"}), `"chunked_attention" for layer 1`},
		"too few layer types":   {with(qwen3, "layer_types", []string{"full_attention"}), "has 1 entries; expected num_hidden_layers, 3"},
		"no layer types":        {with(qwen3, "layer_types", []string{}), "has 0 entries"},
		"too many layer types":  {with(qwen3, "layer_types", slices.Repeat([]string{"full_attention"}, 4)), "has 4 entries"},
		"window not a number":   {with(mistral, "sliding_window", "x"), "sliding_window"},
		"window layers":         {with(qwen2, "sliding_window", 8, "use_sliding_window", true, "max_window_layers", "x"), "max_window_layers"},
		"bool not a bool":       {with(llama, "tie_word_embeddings", "yes"), "true or false"},
		"llama's layer types":   {with(llama, "sliding_window", 8, "layer_types", []string{"full_attention", "sliding_attention", "full_attention"}), "for layer 1, which a llama model"},
		"layer types no list":   {with(qwen3, "sliding_window", 8, "layer_types", 7), "list of strings"},
		"eos not an id":         {with(llama, "eos_token_id", "x"), "eos_token_id"},
		"negative eos":          {with(llama, "eos_token_id", []int{-1}), "has token id -1"},
		"negative epsilon":      {with(llama, "rms_norm_eps", -1e-6), "rms_norm_eps"},
		"dynamic, tiny head":    {with(llama, "head_dim", 2, "rope_scaling", object{"type": "dynamic", "factor": 2}), "head_dim"},
		"bad original length":   {with(llama, "rope_scaling", object{"type": "yarn", "factor": 4, "original_max_position_embeddings": 0}), "original_max_position_embeddings"},
		"bad length outside":    {with(llama, "original_max_position_embeddings", 1.5, "rope_scaling", object{"type": "yarn", "factor": 4}), "original_max_position_embeddings"},
		"rope of few layers":    {with(smollm3, "no_rope_layers", []int{1, 0}), "has 2 entries; expected num_hidden_layers, 3"},
		"rope of no layers":     {with(smollm3, "no_rope_layers", []int{}), "has 0 entries"},
		"rope layers, text":     {with(smollm3, "no_rope_layers", "1"), "a list of integers"},
		"rope layers, floats":   {with(smollm3, "no_rope_layers", []float64{0.5, 1, 1}), "a list of integers"},
		"rope every 0 layers":   {with(smollm3, "no_rope_layer_interval", 0), `"no_rope_layer_interval" is 0`},
		"smollm3, no window":    {with(smollm3, "use_sliding_window", true, "layer_types", []string{"full_attention", "sliding_attention", "full_attention"}), "give no window"},
		"multiplier of 0":       {with(granite, "residual_multiplier", 0), `"residual_multiplier" is 0; expected more than 0`},
		"negative multiplier":   {with(granite, "logits_scaling", -8), `"logits_scaling" is -8`},
		"multiplier, text":      {with(granite, "attention_multiplier", "1"), `"attention_multiplier" is "1"; expected a number`},
		"multiplier, infinite":  {with(granite, "embedding_multiplier", json.RawMessage("1e999")), "embedding_multiplier"},
		"granite with experts":  {with(granite, "model_type", "granitemoe", "num_local_experts", 40), "mixture of experts"},
		"olmo3, no window":      {base("olmo3"), `has "sliding_attention" for layer 0, but sliding_window is null`},
		"olmo3, flat ropes":     {with(olmo3, "rope_parameters", object{"rope_theta": 1e4}), "has more than full_attention and sliding_attention"},
		"olmo3, two scalings":   {with(olmo3, "rope_scaling", object{"type": "yarn", "factor": 2}, "rope_parameters", object{"full_attention": object{"rope_theta": 1e4}}), "beside rope_parameters.full_attention"},
		"olmo3, dynamic":        {with(olmo3, "rope_scaling", object{"type": "dynamic", "factor": 2}), `"rope_scaling.rope_type" is "dynamic", which a olmo3`},
		"olmo3, rope, text":     {with(olmo3, "rope_parameters", object{"sliding_attention": 3}), "rope_parameters.sliding_attention"},
		"olmo3, sliding theta":  {with(olmo3, "rope_parameters", object{"sliding_attention": object{"rope_theta": -1}}), "rope_theta"},
		"olmo3, sliding factor": {with(olmo3, "rope_parameters", object{"sliding_attention": object{"rope_type": "linear"}}), `"rope_parameters.sliding_attention.factor" is missing`},
		"olmo":                  {with(olmo3, "model_type", "olmo"), `"olmo" is not supported`},
		"gemma, no type":        {without(gemma3, "dtype"), `"dtype" is missing`},
		"gemma, 8-bit type":     {with(gemma3, "dtype", "float8_e4m3fn"), `"dtype" is "float8_e4m3fn"`},
		"gemma, older type":     {with(without(gemma3, "dtype"), "torch_dtype", 16), `"torch_dtype" is 16; expected a string`},
		"gemma, plain GELU":     {with(gemma3, "hidden_activation", "gelu"), `"hidden_activation" is "gelu"; only gelu_pytorch_tanh`},
		"gemma, bidirectional":  {with(gemma3, "use_bidirectional_attention", true), "only causal attention"},
		"gemma, scalar of 0":    {with(gemma2, "query_pre_attn_scalar", 0), `"query_pre_attn_scalar" is 0`},
		"gemma, negative cap":   {with(gemma2, "final_logit_softcapping", -30), "final_logit_softcapping"},
		"gemma, cap of 0":       {with(gemma2, "attn_logit_softcapping", 0), `"attn_logit_softcapping" is 0`},
		"gemma3, scores capped": {with(gemma3, "attn_logit_softcapping", 50), `"attn_logit_softcapping" is 50, which a gemma3_text`},
		"gemma3, pattern of 0":  {with(gemma3, "sliding_window_pattern", 0), `"sliding_window_pattern" is 0`},
		"gemma3, local base":    {with(gemma3, "rope_local_base_freq", 1), "expected more than 1"},
		"gemma3, local text":    {with(gemma3, "rope_local_base_freq", "x"), `"rope_local_base_freq" is "x"`},
		"gemma3 with images":    {object{"model_type": "gemma3", "text_config": gemma3}, `"gemma3" is not supported`},
		"gemma2, null window":   {with(gemma2, "sliding_window", nil), `has "sliding_attention" for layer 0, but sliding_window is null`},
		"gemma2, two ropes":     {with(gemma2, "rope_parameters", object{"full_attention": object{}}), `"rope_parameters.full_attention" is present`},
		"phi3, yarn":            {with(phi3, "rope_scaling", object{"type": "yarn", "factor": 4}), `"rope_scaling.rope_type" is "yarn"; a phi3 model has default and longrope`},
		"phi3, older name":      {with(phi3, "rope_scaling", object{"type": "su"}), `is "su"; a phi3`},
		"phi3, odd part":        {with(phi3, "partial_rotary_factor", 0.7), "rotates 11.2 of the 16 dimensions"},
		"phi3, no part":         {with(phi3, "partial_rotary_factor", 0), "partial_rotary_factor"},
		"phi3, negative part":   {with(phi3, "rope_parameters", object{"partial_rotary_factor": -0.5}), `"rope_parameters.partial_rotary_factor" is -0.5`},
		"phi3, too large part":  {with(phi3, "partial_rotary_factor", 1e300), "partial_rotary_factor"},
		"phi3, part, text":      {with(phi3, "partial_rotary_factor", "all"), `"partial_rotary_factor" is "all"`},
		"phi3, factors":         {with(phi3, "partial_rotary_factor", 0.75, "rope_scaling", with(long, "short_factor", []float64{1, 2, 3, 4, 5, 6, 7, 8})), "has 8 numbers; expected 6, half of the dimensions that are rotated"},
		"phi3, layer types":     {with(phi3, "layer_types", []string{"full_attention", "full_attention", "full_attention"}), "layer_types"},
		"phi3, original of 1":   {with(phi3, "original_max_position_embeddings", 1), "original_max_position_embeddings"},
		"partial in the scale":  {with(llama, "rope_parameters", object{"partial_rotary_factor": 0.25}), "partial_rotary_factor"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, tc.config)
			var fe *fault.Error
			if !errors.As(err, &fe) || fe.Kind != fault.Input || fe.File != "config.json" {
				t.Fatalf("got %v", err)
			}
			if msg := err.Error(); !strings.Contains(msg, tc.want) || strings.Contains(msg, "\n") {
				t.Errorf("got %q; want one line with %q", msg, tc.want)
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	bare := without(base("llama"), "num_key_value_heads", "head_dim", "rope_theta", "max_position_embeddings", "rms_norm_eps")
	c := mustParse(t, bare)
	if c.KVHeads != 4 || c.HeadDim != 16 || c.Rope.Theta != 10000 || c.MaxPositions != 2048 || c.RMSNormEps != 1e-6 || c.TieEmbeddings || c.QKVBias || c.QKNorm {
		t.Errorf("llama: %+v", c)
	}
	c = mustParse(t, with(base("qwen2"), "attention_bias", false))
	if !c.QKVBias || c.OBias || c.QKNorm {
		t.Errorf("qwen2: %+v", c)
	}
	c = mustParse(t, with(without(base("qwen3"), "head_dim"), "attention_bias", true))
	if !c.QKVBias || !c.OBias || !c.QKNorm || c.HeadDim != 128 {
		t.Errorf("qwen3: %+v", c)
	}
	c = mustParse(t, with(without(base("gemma2"), "head_dim", "rope_theta", "sliding_window"), "torch_dtype", "bfloat16", "hidden_size", 2000))
	if s := c.Scales; c.HeadDim != 256 || !c.TieEmbeddings || !c.GELU || c.NormOffset != 1 || s.Embedding != 44.75 || s.Scores != 1./16 || s.ScoreCap != 50 || s.LogitCap != 30 || c.Rope.Theta != 10_000 {
		t.Errorf("gemma2: %+v", c)
	}
	c = mustParse(t, with(without(base("gemma3_text"), "rope_theta", "sliding_window"), "dtype", "float16", "hidden_size", 1152, "num_hidden_layers", 6))
	if s := c.Scales; s.Embedding != 33.9375 || s.ScoreCap != 0 || s.LogitCap != 0 || c.LayerRope(5).Theta != 1_000_000 || c.LayerRope(4).Theta != 10_000 {
		t.Errorf("gemma3: %+v", c)
	}
	c = mustParse(t, with(without(base("phi3"), "rms_norm_eps", "rope_theta"), "partial_rotary_factor", 0.75))
	if inv, _ := c.Rope.Frequencies(16, 1); !c.Fused || c.RMSNormEps != 1e-5 || c.Rope.Dims != 12 || len(inv) != 6 {
		t.Errorf("phi3: %+v", c)
	}
	c = mustParse(t, without(base("olmo2"), "rms_norm_eps"))
	if c.RMSNormEps != 1e-5 || c.Norms != PostNorm || !c.QKNormAll || c.SlidingRope != nil {
		t.Errorf("olmo2: %+v", c)
	}
	c = mustParse(t, with(base("olmo3"), "sliding_window", 8, "num_hidden_layers", 4))
	if c.LayerRope(3).Theta != 10_000 || c.LayerRope(2).Theta != 500_000 || c.Window(3) != 0 {
		t.Errorf("olmo3: %+v", c)
	}
	c = mustParse(t, base("granite"))
	if c.Scales != (Scales{Embedding: 1, Scores: 1, Residual: 1, Logits: 1}) {
		t.Errorf("granite: %+v", c)
	}
	c = mustParse(t, with(base("smollm3"), "num_hidden_layers", 8))
	if !c.TieEmbeddings || c.LayerRope(3) != nil || c.LayerRope(2) == nil || c.LayerRope(7) != nil {
		t.Errorf("smollm3: %+v", c)
	}
	c = mustParse(t, with(base("qwen3"), "num_key_value_heads", nil))
	if c.KVHeads != c.Heads {
		t.Errorf("null key and value heads: %d", c.KVHeads)
	}
	c = mustParse(t, with(base("llama"), "rope_parameters", object{"rope_theta": 500.0, "rope_type": "default"}))
	if c.Rope.Theta != 500 {
		t.Errorf("rope_parameters: theta %v", c.Rope.Theta)
	}
	c = mustParse(t, with(base("llama"), "rope_scaling", object{}, "rope_parameters", object{"rope_theta": 500.0}))
	if c.Rope.Theta != 500 {
		t.Errorf("an empty rope_scaling hides rope_parameters: theta %v", c.Rope.Theta)
	}
}

// Names and shapes of every family, and the number of parameters of a model
// whose size is published: Qwen3-0.6B has 596,049,920 with the tied head once.
func TestTensors(t *testing.T) {
	c := mustParse(t, map[string]any{
		"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
		"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "rope_theta": 1e6, "max_position_embeddings": 40960, "tie_word_embeddings": true,
	})
	n := 0
	for _, s := range c.Tensors() {
		k := 1
		for _, d := range s.Shape {
			k *= d
		}
		n += k
	}
	if n != 596_049_920 {
		t.Errorf("Qwen3-0.6B has %d parameters", n)
	}
	c = mustParse(t, with(base("llama"), "attention_bias", true, "mlp_bias", true))
	var names []string
	for _, s := range c.Tensors() {
		names = append(names, s.Name)
	}
	for _, want := range []string{"lm_head.weight", "model.layers.2.self_attn.o_proj.bias", "model.layers.0.mlp.down_proj.bias"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if slices.Contains(names, "model.layers.0.self_attn.q_norm.weight") {
		t.Error("llama has a QK-norm")
	}
}

func TestLoadConfigGeneration(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, v any) {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := LoadConfig(dir); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("no config.json: %v", err)
	}
	write("config.json", with(base("llama"), "eos_token_id", 7))
	c, err := LoadConfig(dir)
	if err != nil || !slices.Equal(c.EOS, []int32{7}) {
		t.Errorf("%v, %v", c, err)
	}
	write("generation_config.json", object{"eos_token_id": []int{9, 7, 8}})
	c, err = LoadConfig(dir)
	if err != nil || !slices.Equal(c.EOS, []int32{7, 9, 8}) {
		t.Errorf("%v, %v", c.EOS, err)
	}
	write("generation_config.json", object{"eos_token_id": 100})
	if _, err = LoadConfig(dir); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "generation_config.json") {
		t.Errorf("an eos beyond the vocabulary: %v", err)
	}
}

func TestConfigSyntax(t *testing.T) {
	for _, text := range []string{
		"", "{", "[]", "null", `{"a":1} x`, `{"a":1,"a":2}`, `{"model_type":"llama","model_type":"llama"}`, `{"a":}`, strings.Repeat("[", 100_000),
		`{"a":` + strings.Repeat("[", 100_000), `{"model_type":"llama","hidden_size":1e999}`,
	} {
		if _, err := ParseConfig("config.json", []byte(text)); fault.KindOf(err) != fault.Input || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// A config that is accepted can be used: its tensors have positive sizes whose
// product does not overflow, and its frequencies are numbers.
func FuzzParseConfig(f *testing.F) {
	for _, m := range []map[string]any{
		base("llama"), with(base("qwen2"), "tie_word_embeddings", true),
		with(base("qwen3"), "quantization_config", object{"quant_method": "afmq", "version": 1, "bits": 4, "group_rows": 16, "modules": object{"lm_head": object{"bits": 2}}}),
		with(base("llama"), "rope_scaling", object{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 128}),
		with(base("llama"), "rope_scaling", object{"type": "yarn", "factor": 4, "mscale": 1, "mscale_all_dim": 0.5}),
		with(base("mistral"), "sliding_window", 8, "layer_types", []string{"full_attention", "sliding_attention", "full_attention"}),
		with(base("qwen2"), "sliding_window", 8, "use_sliding_window", true, "max_window_layers", 1),
		with(base("gemma2"), "dtype", "bfloat16", "sliding_window", 8),
		with(base("gemma3_text"), "torch_dtype", "float16", "sliding_window", 8, "rope_local_base_freq", 100, "rope_scaling", object{"rope_type": "linear", "factor": 8}),
		with(base("phi3"), "partial_rotary_factor", 0.75, "original_max_position_embeddings", 16, "rope_scaling", object{"type": "longrope", "short_factor": []int{1, 1, 1, 1, 1, 1}, "long_factor": []int{1, 2, 3, 4, 5, 6}}),
		base("olmo2"), with(base("olmo3"), "sliding_window", 8, "rope_parameters", object{"full_attention": object{"rope_type": "linear", "factor": 2}, "sliding_attention": nil}),
		with(base("granite"), "embedding_multiplier", 12, "attention_multiplier", 0.0078125, "residual_multiplier", 0.22, "logits_scaling", 16.0),
		with(base("smollm3"), "sliding_window", 8, "use_sliding_window", true, "no_rope_layers", []int{0, 1, 1}),
		with(base("mistral"), "rope_parameters", object{"rope_type": "dynamic", "factor": 2, "rope_theta": 1e6}),
	} {
		data, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("config.json", data)
		if err != nil {
			if fault.KindOf(err) != fault.Input {
				t.Fatal(err)
			}
			return
		}
		if c.Layers > 64 {
			return
		}
		for layer := range c.Layers {
			if w := c.Window(layer); w < 0 || c.Sliding != nil && (w > 0) != c.Sliding[layer] {
				t.Fatalf("layer %d has a window of %d: %+v", layer, w, c)
			}
		}
		for _, s := range c.Tensors() {
			n := int64(1)
			for _, d := range s.Shape {
				if n *= int64(d); d < 1 || n < 1 {
					t.Fatalf("%+v", s)
				}
			}
		}
		for _, length := range []int{1, c.MaxPositions, 2 * c.MaxPositions} {
			for _, r := range []*Rope{&c.Rope, c.SlidingRope} {
				if r == nil {
					continue
				}
				inv, factor := r.Frequencies(c.HeadDim, length)
				if n := cmp.Or(r.Dims, c.HeadDim); len(inv) != n/2 || n > c.HeadDim || !(factor > 0) {
					t.Fatalf("%d frequencies, factor %v: %+v", len(inv), factor, r)
				}
				for _, x := range inv {
					if !(x >= 0) {
						t.Fatalf("frequencies %v: %+v", inv, r)
					}
				}
			}
		}
	})
}

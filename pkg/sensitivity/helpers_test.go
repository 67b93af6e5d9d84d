package sensitivity

import (
	"fmt"
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// tinyConfig is that of a model of two layers.
func tinyConfig(t *testing.T, tie bool) *model.Config {
	t.Helper()
	cfg, err := model.ParseConfig("config.json", []byte(fmt.Sprintf(`{
		"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
		"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
		"rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 64, "hidden_act": "silu",
		"tie_word_embeddings": %v, "torch_dtype": "float16"}`, tie)))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// wantFault fails unless err is of a kind, on one line, and mentions the parts.
func wantFault(t testing.TB, err error, kind fault.Kind, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if fault.KindOf(err) != kind || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v: kind %v, want %v, on one line", err, fault.KindOf(err), kind)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%v: does not mention %q", err, p)
		}
	}
}

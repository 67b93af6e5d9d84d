package model

import (
	"slices"
	"testing"
)

// Which layers slide, by the config classes of transformers 5.23. The golden logits hold
// the usual cases to transformers itself.
func TestConfigWindows(t *testing.T) {
	const f, s = "full_attention", "sliding_attention"
	qwen := with(base("qwen2"), "sliding_window", 16, "use_sliding_window", true)
	for name, tc := range map[string]struct {
		config map[string]any
		want   []int // of each layer
	}{
		"mistral":                {with(base("mistral"), "sliding_window", 16), []int{16, 16, 16}},
		"mistral, null":          {base("mistral"), []int{0, 0, 0}},
		"mistral, no key":        {without(base("mistral"), "sliding_window"), []int{4096, 4096, 4096}},
		"mistral, window of 1":   {with(base("mistral"), "sliding_window", 1), []int{1, 1, 1}},
		"mistral, full layers":   {with(base("mistral"), "sliding_window", 16, "layer_types", []string{f, f, f}), []int{0, 0, 0}},
		"mistral, null and full": {with(base("mistral"), "layer_types", []string{f, f, f}), []int{0, 0, 0}},
		"mistral, layer types":   {with(base("mistral"), "sliding_window", 16, "layer_types", []string{s, f, s}), []int{16, 0, 16}},
		"mistral, null types":    {with(base("mistral"), "sliding_window", 16, "layer_types", nil), []int{16, 16, 16}},
		"qwen, not used":         {with(base("qwen2"), "sliding_window", 16, "max_window_layers", 0), []int{0, 0, 0}},
		"qwen, 0 and not used":   {with(base("qwen2"), "sliding_window", 0, "max_window_layers", 0), []int{0, 0, 0}},
		"qwen, later layers":     {qwen, []int{0, 0, 0}},
		"qwen, all layers":       {with(qwen, "max_window_layers", 0), []int{16, 16, 16}},
		"qwen, last layers":      {with(qwen, "max_window_layers", 1), []int{0, 16, 16}},
		"qwen, no layers":        {with(qwen, "max_window_layers", 3), []int{0, 0, 0}},
		"qwen, null":             {with(qwen, "sliding_window", nil, "max_window_layers", 0), []int{0, 0, 0}},
		"qwen, no key":           {without(with(qwen, "max_window_layers", 0), "sliding_window"), []int{4096, 4096, 4096}},
		"qwen, layer types":      {with(qwen, "max_window_layers", 0, "layer_types", []string{f, s, "attention"}), []int{0, 16, 0}},
		"qwen, full layers":      {with(base("qwen3"), "sliding_window", 16, "layer_types", []string{f, f, f}), []int{0, 0, 0}},
		"olmo3":                  {with(base("olmo3"), "sliding_window", 16, "num_hidden_layers", 4), []int{16, 16, 16}},
		"olmo3, layer types":     {with(base("olmo3"), "sliding_window", 16, "layer_types", []string{s, f, s}), []int{16, 0, 16}},
		"olmo3, no key":          {without(base("olmo3"), "sliding_window"), []int{4096, 4096, 4096}},
		"olmo2 has no windows":   {with(base("olmo2"), "sliding_window", 16), []int{0, 0, 0}},
		"gemma2":                 {with(base("gemma2"), "dtype", "float16", "sliding_window", 16), []int{16, 0, 16}},
		"gemma3":                 {with(base("gemma3_text"), "dtype", "float16", "sliding_window", 16, "num_hidden_layers", 3), []int{16, 16, 16}},
		"gemma3, pattern":        {with(base("gemma3_text"), "dtype", "float16", "sliding_window", 16, "sliding_window_pattern", 3), []int{16, 16, 0}},
		"gemma3, layer types":    {with(base("gemma3_text"), "dtype", "float16", "sliding_window", 16, "sliding_window_pattern", 3, "layer_types", []string{f, s, f}), []int{0, 16, 0}},
		"phi3":                   {with(base("phi3"), "sliding_window", 16), []int{16, 16, 16}},
		"phi3, null":             {base("phi3"), []int{0, 0, 0}},
		"phi3, no key":           {without(base("phi3"), "sliding_window"), []int{0, 0, 0}},
		"smollm3":                {with(base("smollm3"), "sliding_window", 16), []int{0, 0, 0}},
		"smollm3, no rope":       {with(base("smollm3"), "sliding_window", 16, "use_sliding_window", true, "no_rope_layer_interval", 2), []int{0, 16, 0}},
		"smollm3, no key":        {without(with(base("smollm3"), "use_sliding_window", true, "no_rope_layers", []int{0, 1, 0}), "sliding_window"), []int{0, 0, 0}},
		"smollm3, layer types":   {with(base("smollm3"), "sliding_window", 16, "use_sliding_window", true, "layer_types", []string{s, f, f}), []int{16, 0, 0}},
		"llama has no windows":   {with(base("llama"), "sliding_window", 16), []int{0, 0, 0}},
		"llama, full layers":     {with(base("llama"), "sliding_window", 16, "layer_types", []string{f, f, f}), []int{0, 0, 0}},
	} {
		c, err := parse(t, tc.config)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, sliding := []int{c.Window(0), c.Window(1), c.Window(2)}, 0
		for _, w := range tc.want {
			if w > 0 {
				sliding++
			}
		}
		if !slices.Equal(got, tc.want) || c.SlidingLayers() != sliding || c.SlidingWindow != slices.Max(tc.want) {
			t.Errorf("%s: windows %v, %d layers, %d; expected %v", name, got, c.SlidingLayers(), c.SlidingWindow, tc.want)
		}
	}
}

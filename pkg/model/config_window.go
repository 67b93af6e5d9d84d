package model

import "slices"

// The supported values of layer_types. transformers reads "attention" in older files as
// "full_attention".
const (
	fullAttention    = "full_attention"
	oldFullAttention = "attention"
	slidingAttention = "sliding_attention"
)

// readWindow reads which layers have a sliding window, and its length, by the rules of the
// family's config class in transformers 5.
func (c *Config) readWindow(f *fields, fam family) {
	window := f.int("sliding_window", fam.length, 0, maxLength)
	// A Qwen config ignores the window without use_sliding_window; a Llama config has none.
	given := fam.window != noWindow && (f.has("sliding_window") || fam.length > 0 && !f.isNull("sliding_window"))
	switched := fam.window == qwenWindow || fam.window == smolWindow
	if switched {
		given = f.bool("use_sliding_window", false) && given
	}
	if fam.window == phiWindow && f.has("layer_types") {
		f.fail("layer_types", "is present, which a %s model does not support", c.ModelType)
	}
	sliding := c.readLayerTypes(f)
	if sliding == nil && (given || fam.window == patternWindow) {
		sliding = c.defaultWindows(f, fam)
	}
	layer := slices.Index(sliding, true)
	switch {
	case f.err != nil || layer < 0:
	case fam.window == noWindow:
		f.fail("layer_types", "has %q for layer %d, which a %s model does not support", slidingAttention, layer, c.ModelType)
	case !given && switched:
		f.fail("layer_types", "has %q for layer %d, but use_sliding_window and sliding_window give no window", slidingAttention, layer)
	case !given:
		f.fail("layer_types", "has %q for layer %d, but sliding_window is null", slidingAttention, layer)
	case window == 0:
		f.fail("sliding_window", "is 0, but layer %d uses it; expected 1 or more, or null for no window", layer)
	default:
		c.SlidingWindow, c.Sliding = window, sliding
	}
}

// defaultWindows returns which layers have a window without layer_types.
func (c *Config) defaultWindows(f *fields, fam family) []bool {
	sliding := make([]bool, c.Layers)
	first := 0
	switch fam.window {
	case qwenWindow:
		first = f.int("max_window_layers", 28, 0, maxLength)
	case smolWindow:
		copy(sliding, c.NoRope)
		return sliding
	case patternWindow:
		pattern := fam.pattern
		if fam.localKeys {
			pattern = f.int("sliding_window_pattern", pattern, 1, maxLength)
		}
		for i := range sliding {
			sliding[i] = (i+1)%pattern != 0
		}
		return sliding
	}
	for i := min(first, c.Layers); i < c.Layers; i++ {
		sliding[i] = true
	}
	return sliding
}

// readLayerTypes reads layer_types: for each layer whether it has a window; nil if the key is
// missing or null.
func (c *Config) readLayerTypes(f *fields) []bool {
	if !f.has("layer_types") {
		return nil
	}
	types := f.strings("layer_types")
	sliding := make([]bool, len(types))
	for i, t := range types {
		switch t {
		case fullAttention, oldFullAttention:
		case slidingAttention:
			sliding[i] = true
		default:
			f.fail("layer_types", "has %q for layer %d, which is not supported", t, i)
		}
	}
	if len(types) != c.Layers {
		f.fail("layer_types", "has %d entries; expected num_hidden_layers, %d", len(types), c.Layers)
	}
	return sliding
}

// Window returns how many positions a token attends to in a layer, including its own; 0 if it
// attends to all earlier ones.
func (c *Config) Window(layer int) int {
	if c.Sliding == nil || !c.Sliding[layer] {
		return 0
	}
	return c.SlidingWindow
}

// SlidingLayers returns the number of layers with a sliding window.
func (c *Config) SlidingLayers() int {
	n := 0
	for _, s := range c.Sliding {
		if s {
			n++
		}
	}
	return n
}

package model

import "slices"

// readNoRope reads which layers have no rotary embedding: those with a 0 in no_rope_layers or,
// without that key, every one at a multiple of no_rope_layer_interval.
func (c *Config) readNoRope(f *fields) {
	bare := make([]bool, c.Layers)
	if !f.has("no_rope_layers") {
		interval := f.int("no_rope_layer_interval", 4, 1, maxLength)
		for i := range bare {
			bare[i] = (i+1)%interval == 0
		}
	} else {
		rotated := f.ints("no_rope_layers")
		if f.err == nil && len(rotated) < c.Layers {
			f.fail("no_rope_layers", "has %d entries; expected num_hidden_layers, %d", len(rotated), c.Layers)
			return
		}
		for i := range min(len(rotated), c.Layers) {
			bare[i] = rotated[i] == 0
		}
	}
	if slices.Contains(bare, true) {
		c.NoRope = bare
	}
}

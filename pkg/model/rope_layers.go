package model

// readLayerRopes reads the rotary embedding of layers with a sliding window, and that of the others, from
// the two objects in rope_parameters. In older files rope_scaling and rope_theta are those of the
// others alone.
func (c *Config) readLayerRopes(f *fields, fam family) {
	o := f.object("rope_parameters")
	if o == nil {
		o = &fields{file: f.file, path: "rope_parameters."}
	}
	for key := range o.m {
		if key != fullAttention && key != slidingAttention {
			f.fail("rope_parameters", "has more than %s and %s, which a %s model does not support", fullAttention, slidingAttention, c.ModelType)
		}
	}
	part := func(key string) *fields {
		if p := o.object(key); p != nil {
			return p
		}
		return &fields{file: f.file, path: o.path + key + "."}
	}
	full, sliding := part(fullAttention), part(slidingAttention)
	if old := f.object("rope_scaling"); old != nil && len(old.m) > 0 {
		if len(full.m) > 0 {
			f.fail("rope_scaling", "is present beside rope_parameters.%s", fullAttention)
		}
		full = old
	}
	if f.err == nil {
		f.err = o.err
	}
	if f.err != nil {
		return
	}
	c.Rope = c.readLayerRope(f, full, f.float("rope_theta", fam.theta))
	local := fam.slidingTheta
	if fam.localKeys {
		local = f.float("rope_local_base_freq", local)
	}
	own := c.readLayerRope(f, sliding, local)
	if c.Sliding != nil {
		c.SlidingRope = &own
	}
}

// readLayerRope reads the rotary embedding of one type of layer. Lengths of the original training
// beside its parameters do not count.
func (c *Config) readLayerRope(f, o *fields, theta float64) Rope {
	outer := &fields{file: f.file}
	r := readRope(outer, o, c, theta)
	if f.err == nil {
		f.err = outer.err
	}
	if r.Regime(1) != r.Regime(maxLength) && f.err == nil {
		f.err = o.errorf("rope_type", "is %q, which a %s model does not support", r.Type, c.ModelType)
	}
	return r
}

// LayerRope returns the rotary embedding of a layer; nil if it has none.
func (c *Config) LayerRope(layer int) *Rope {
	switch {
	case c.NoRope != nil && c.NoRope[layer]:
		return nil
	case c.SlidingRope != nil && c.Sliding[layer]:
		return c.SlidingRope
	}
	return &c.Rope
}

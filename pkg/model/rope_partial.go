package model

import (
	"encoding/json"
	"strconv"
)

// readPhiRope reads the rotary embedding of Phi-3: of the first dimensions of each head, with no scaling
// but longrope. The length of the original training stands beside the parameters o of the scaling, not
// in them.
func (c *Config) readPhiRope(f, o *fields, fam family, theta float64) {
	const part, kind, original = "partial_rotary_factor", "rope_type", "original_max_position_embeddings"
	switch t := o.string(kind, o.string("type", "default")); t {
	case "default", "longrope":
	default:
		o.fail(kind, "is %q; a %s model has default and longrope", t, c.ModelType)
	}
	share := o.float(part, f.float(part, 1))
	dims := int(float64(c.HeadDim) * share)
	if f.err == nil && o.err == nil && (share <= 0 || share > 1 || dims < 2 || dims%2 != 0) {
		o.fail(part, "is %v, which rotates %v of the %d dimensions of a head; expected an even number of them", share, float64(c.HeadDim)*share, c.HeadDim)
	}
	length := f.int(original, fam.original, 2, maxLength)
	if o.m != nil {
		delete(o.m, part)
		o.m[original] = json.RawMessage(strconv.Itoa(length))
	}
	if f.err == nil {
		f.err = o.err
	}
	if f.err != nil {
		return
	}
	rotated := *c
	rotated.HeadDim = dims
	c.Rope = readRope(f, o, &rotated, theta)
	if dims < c.HeadDim {
		c.Rope.Dims = dims
	}
}

package coreml

import (
	"context"
	"fmt"
	"io"
	"math"

	"afmq/pkg/export/internal/source"
	"afmq/pkg/model"
)

// Names of the inputs, states and outputs of every function.
const (
	inputIDs = "input_ids"
	position = "position"
	keys     = "keyCache"
	values   = "valueCache"
	logits   = "logits"
)

// masked is what is added to the score of a position that a token does not attend to: large
// against any score, and far enough from the limit of fp16, 65504, for the sum.
const masked = 30000

// decoder builds one function of the program: the model on a chunk of tokens.
type decoder struct {
	*builder
	w       *weights
	cfg     *model.Config
	adapter *Adapter // nil for the base alone
	chunk   int      // tokens per call
	context int      // positions of the caches
	sqrtEps float64

	cos, sin value         // [chunk, headDim/2]
	at, end  value         // the first position of the chunk, and that after its last
	rows     value         // the positions of the chunk, [chunk]
	masks    map[int]value // by window: what is added to the scores, [1, 1, group·chunk, context]
}

// cacheShape is the shape of the states: [layers, 1, kvHeads, context, headDim].
func cacheShape(cfg *model.Config, context int) []int {
	return []int{cfg.Layers, 1, cfg.KVHeads, context, cfg.HeadDim}
}

// build returns the operations of the function and the shape of its logits.
func (d *decoder) build() ([]int, error) {
	c := d.cfg
	d.sqrtEps = math.Sqrt(c.RMSNormEps)
	ids := value{inputIDs, int32s, []int{1, d.chunk}}
	d.positions()
	embedding := d.w.Embedding()
	table, err := d.w.matrix(d.builder, embedding)
	if err != nil {
		return nil, err
	}
	x := d.gather(table, ids)
	if factor, scaled := d.w.factor(d.builder, embedding); scaled {
		x = d.binary("mul", x, factor)
	}
	for layer := range c.Layers {
		if x, err = d.layer(x, layer); err != nil {
			return nil, err
		}
	}
	x = d.w.norm(d.builder, x, "model.norm.weight", d.sqrtEps)
	head := d.w.Head()
	weight, err := d.w.matrix(d.builder, head)
	if err != nil {
		return nil, err
	}
	shape := []int{1, d.chunk, c.VocabSize}
	factor, scaled := d.w.factor(d.builder, head)
	if !scaled {
		d.opNamed("linear", logits, half16, shape, arg{"x", x}, arg{"weight", weight})
		return shape, nil
	}
	d.opNamed("mul", logits, half16, shape, arg{"x", d.linear(x, weight, nil)}, arg{"y", factor})
	return shape, nil
}

// positions computes what depends on the position of the chunk alone: the rotations and the
// ends of the writes to the caches.
func (d *decoder) positions() {
	d.at = value{position, int32s, []int{1}}
	d.rows = d.binary("add", d.at, d.integers(count(d.chunk)...))
	d.end = d.binary("add", d.at, d.integers(d.chunk))
	shape := []int{d.context, d.cfg.HeadDim / 2}
	d.cos = d.gather(d.storedHalf("rope:cos", shape, d.rotations(math.Cos)), d.rows)
	d.sin = d.gather(d.storedHalf("rope:sin", shape, d.rotations(math.Sin)), d.rows)
	d.masks = map[int]value{}
}

// count returns 0, 1, … n-1.
func count(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// rotations writes the table [context, headDim/2] of a function of the rotation angles.
func (d *decoder) rotations(f func(float64) float64) func(context.Context, io.Writer) error {
	return func(_ context.Context, to io.Writer) error {
		inv, factor := d.cfg.Rope.Frequencies(d.cfg.HeadDim, d.context)
		row, half := make([]float32, len(inv)), make([]uint16, len(inv))
		for p := range d.context {
			for i, a := range inv {
				row[i] = float32(factor * f(float64(p)*a))
			}
			if err := d.w.Round(half, row, "rotary embedding"); err != nil {
				return err
			}
			if err := source.WriteHalves(to, half); err != nil {
				return err
			}
		}
		return nil
	}
}

// mask returns what is added to the scores of a layer whose tokens attend to window positions;
// 0 for all earlier ones. The rows of the query heads that share a key head follow each other.
func (d *decoder) mask(window int) value {
	if v, ok := d.masks[window]; ok {
		return v
	}
	columns := d.integers(count(d.context)...)
	row := d.reshape(d.rows, d.chunk, 1)
	seen := d.compare("less_equal", columns, row)
	if window > 0 {
		first := d.binary("sub", row, d.integer(window))
		seen = d.compare("logical_and", seen, d.compare("greater", columns, first))
	}
	m := d.binary("mul", d.binary("sub", d.cast(seen, half16, "fp16"), d.half(1)), d.half(masked))
	group := d.cfg.Heads / d.cfg.KVHeads
	m = d.reshape(m, 1, 1, d.chunk, d.context)
	if group > 1 {
		m = d.op("tile", half16, []int{1, 1, group * d.chunk, d.context}, arg{"x", m}, arg{"reps", d.integers(1, 1, group, 1)})
	}
	d.masks[window] = m
	return m
}

// layer appends one decoder layer.
func (d *decoder) layer(x value, layer int) (value, error) {
	prefix := fmt.Sprintf("model.layers.%d.", layer)
	a, err := d.attention(d.w.norm(d.builder, x, prefix+"input_layernorm.weight", d.sqrtEps), layer, prefix+"self_attn.")
	if err != nil {
		return value{}, err
	}
	x = d.binary("add", x, a)
	h := d.w.norm(d.builder, x, prefix+"post_attention_layernorm.weight", d.sqrtEps)
	gate, err := d.w.projection(d.builder, h, prefix+"mlp.gate_proj", d.adapter)
	if err != nil {
		return value{}, err
	}
	up, err := d.w.projection(d.builder, h, prefix+"mlp.up_proj", d.adapter)
	if err != nil {
		return value{}, err
	}
	down, err := d.w.projection(d.builder, d.binary("mul", d.unary("silu", gate), up), prefix+"mlp.down_proj", d.adapter)
	if err != nil {
		return value{}, err
	}
	return d.binary("add", x, down), nil
}

// attention appends grouped-query attention over the caches. The query heads that share a key
// head are rows of one product, so that the caches are not copied for each of them.
func (d *decoder) attention(x value, layer int, prefix string) (value, error) {
	c := d.cfg
	var heads [3]value
	for i, p := range []struct {
		name string
		n    int
		norm string
	}{{"q_proj", c.Heads, "q_norm"}, {"k_proj", c.KVHeads, "k_norm"}, {"v_proj", c.KVHeads, ""}} {
		y, err := d.w.projection(d.builder, x, prefix+p.name, d.adapter)
		if err != nil {
			return value{}, err
		}
		y = d.transpose(d.reshape(y, 1, d.chunk, p.n, c.HeadDim), 0, 2, 1, 3)
		if p.norm != "" {
			if c.QKNorm {
				y = d.w.norm(d.builder, y, prefix+p.norm+".weight", d.sqrtEps)
			}
			y = d.rotate(y)
		}
		heads[i] = y
	}
	group := c.Heads / c.KVHeads
	query := d.reshape(heads[0], 1, c.KVHeads, group*d.chunk, c.HeadDim)
	k, v := d.cached(keys, heads[1], layer), d.cached(values, heads[2], layer)
	y := d.op("scaled_dot_product_attention", half16, query.shape,
		arg{"query", query}, arg{"key", k}, arg{"value", v}, arg{"attn_mask", d.mask(c.Window(layer))})
	y = d.transpose(d.reshape(y, 1, c.Heads, d.chunk, c.HeadDim), 0, 2, 1, 3)
	return d.w.projection(d.builder, d.reshape(y, 1, d.chunk, c.Heads*c.HeadDim), prefix+"o_proj", d.adapter)
}

// rotate applies the rotary position embedding: the first half of a head's dimensions is the
// real part, the second the imaginary one.
func (d *decoder) rotate(x value) value {
	re, im := d.halves(x)
	return d.concat(-1,
		d.binary("sub", d.binary("mul", re, d.cos), d.binary("mul", im, d.sin)),
		d.binary("add", d.binary("mul", im, d.cos), d.binary("mul", re, d.sin)))
}

// cached writes the keys or values [1, kvHeads, chunk, headDim] of a layer to a state and
// returns those of all positions, [1, kvHeads, context, headDim].
func (d *decoder) cached(state string, x value, layer int) value {
	c := d.cfg
	shape := cacheShape(c, d.context)
	read := func() value { return d.op("read_state", half16, shape, arg{"input", value{name: state}}) }
	zero, one := d.integers(0), d.integers(1)
	updated := d.op("slice_update", half16, shape,
		arg{"x", read()},
		arg{"update", d.reshape(x, 1, 1, c.KVHeads, d.chunk, c.HeadDim)},
		arg{"begin", d.concat(0, d.integers(layer), zero, zero, d.at, zero)},
		arg{"end", d.concat(0, d.integers(layer+1), one, d.integers(c.KVHeads), d.end, d.integers(c.HeadDim))},
		arg{"stride", d.integers(1, 1, 1, 1, 1)})
	d.append("write_state", d.fresh("write_state"), nil, arg{"input", value{name: state}}, arg{"data", updated})
	own := d.op("slice_by_size", half16, []int{1, 1, c.KVHeads, d.context, c.HeadDim},
		arg{"x", read()}, arg{"begin", d.integers(layer, 0, 0, 0, 0)}, arg{"size", d.integers(1, 1, c.KVHeads, d.context, c.HeadDim)})
	return d.reshape(own, 1, c.KVHeads, d.context, c.HeadDim)
}

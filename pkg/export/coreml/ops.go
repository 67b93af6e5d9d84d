package coreml

import "slices"

// broadcast returns the shape of an element-wise operation, by NumPy's rule.
func broadcast(a, b []int) []int {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i, n := range b {
		if j := len(a) - len(b) + i; n > out[j] {
			out[j] = n
		}
	}
	return out
}

// binary appends an element-wise operation of two values: add, sub, mul, real_div, maximum.
func (b *builder) binary(kind string, x, y value) value {
	return b.op(kind, x.dtype, broadcast(x.shape, y.shape), arg{"x", x}, arg{"y", y})
}

// compare appends a comparison of two values of integers.
func (b *builder) compare(kind string, x, y value) value {
	return b.op(kind, boolean, broadcast(x.shape, y.shape), arg{"x", x}, arg{"y", y})
}

func (b *builder) unary(kind string, x value) value { return b.op(kind, x.dtype, x.shape, arg{"x", x}) }

func (b *builder) reshape(x value, shape ...int) value {
	return b.op("reshape", x.dtype, shape, arg{"x", x}, arg{"shape", b.integers(shape...)})
}

func (b *builder) transpose(x value, perm ...int) value {
	shape := make([]int, len(perm))
	for i, p := range perm {
		shape[i] = x.shape[p]
	}
	return b.op("transpose", x.dtype, shape, arg{"x", x}, arg{"perm", b.integers(perm...)})
}

// concat joins values along an axis, which counts from the end if it is negative.
func (b *builder) concat(axis int, values ...value) value {
	shape := slices.Clone(values[0].shape)
	at := (axis + len(shape)) % len(shape)
	shape[at] = 0
	for _, v := range values {
		shape[at] += v.shape[at]
	}
	return b.op("concat", values[0].dtype, shape,
		arg{"values", values}, arg{"axis", b.integer(axis)}, arg{"interleave", b.boolean(false)})
}

// halves splits the last dimension in two.
func (b *builder) halves(x value) (value, value) {
	shape := slices.Clone(x.shape)
	shape[len(shape)-1] /= 2
	name := b.fresh("split")
	first, second := value{name + "_0", x.dtype, shape}, value{name + "_1", x.dtype, shape}
	b.append("split", name, []value{first, second},
		arg{"x", x}, arg{"num_splits", b.integer(2)}, arg{"axis", b.integer(-1)})
	return first, second
}

// gather takes the rows of x that indices names: [indices..., x.shape[1:]...].
func (b *builder) gather(x, indices value) value {
	shape := append(slices.Clone(indices.shape), x.shape[1:]...)
	return b.op("gather", x.dtype, shape, arg{"x", x}, arg{"indices", indices},
		arg{"axis", b.integer(0)}, arg{"batch_dims", b.integer(0)}, arg{"validate_indices", b.boolean(false)})
}

// reduce appends reduce_max or reduce_mean over the last dimension, which stays with length 1.
func (b *builder) reduce(kind string, x value) value {
	shape := slices.Clone(x.shape)
	shape[len(shape)-1] = 1
	return b.op(kind, x.dtype, shape, arg{"x", x}, arg{"axes", b.integers(-1)}, arg{"keep_dims", b.boolean(true)})
}

func (b *builder) cast(x value, t dataType, name string) value {
	return b.op("cast", t, x.shape, arg{"x", x}, arg{"dtype", b.string(name)})
}

// linear multiplies x [..., in] with the transpose of weight [out, in] and adds bias [out],
// unless that is nil.
func (b *builder) linear(x, weight value, bias *value) value {
	shape := slices.Clone(x.shape)
	shape[len(shape)-1] = weight.shape[0]
	args := []arg{{"x", x}, {"weight", weight}}
	if bias != nil {
		args = append(args, arg{"bias", *bias})
	}
	return b.op("linear", half16, shape, args...)
}

// rmsNorm computes x/√(mean(x²)+eps)·weight over the last dimension. In fp16 the squares of
// values over 255 overflow, so x is divided by its largest magnitude m first: with u = x/m the
// result is u/√(mean(u²)+eps/m²)·weight. m is at least √eps, so that eps/m² is at most 1.
func (b *builder) rmsNorm(x, weight value, sqrtEps float64) value {
	floor := b.half(sqrtEps)
	m := b.binary("maximum", b.reduce("reduce_max", b.unary("abs", x)), floor)
	u := b.binary("real_div", x, m)
	e := b.binary("real_div", floor, m)
	mean := b.reduce("reduce_mean", b.binary("mul", u, u))
	v := b.binary("add", mean, b.binary("mul", e, e))
	r := b.op("rsqrt", half16, v.shape, arg{"x", v}, arg{"epsilon", b.half(0)})
	return b.binary("mul", b.binary("mul", u, r), weight)
}

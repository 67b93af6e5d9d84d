package coreml

import (
	"context"
	"io"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
)

// matrix returns the weights [rows, cols] of a stored matrix as a constant in fp16, in the form
// in which the artifact has them.
//
//   - A palette is constexpr_lut_to_dense of its packed indices and tables. Row scales become
//     constexpr_blockwise_shift_scale of that, the form that coremltools itself writes for a
//     palette with per-channel scales; the weight is fp16(table·scale).
//   - An int8 row is constexpr_blockwise_shift_scale of its values and scales.
//   - Everything else is a constant in fp16.
func (w *weights) matrix(b *builder, st *artifact.StoredTensor) (value, error) {
	name, id := st.Spec.Name, identifier(st.Spec.Name)
	shape := st.Spec.Shape
	if v, ok := b.consts[name]; ok {
		return v, nil
	}
	var out value
	switch st.Form {
	case artifact.Palette:
		m, err := w.Palette(st)
		if err != nil {
			return value{}, err
		}
		lut := []int{m.Groups(), 1, 1 << m.Bits, 1}
		dense := id
		if m.RowScale != nil {
			dense += "_palette"
		}
		t := indexTypes[m.Bits]
		out = b.opNamed("constexpr_lut_to_dense", dense, half16, shape,
			arg{"indices", b.stored(name+artifact.SuffixIndices, t, shape, func(_ context.Context, to io.Writer) error { return source.WriteIndices(to, m) })},
			arg{"lut", b.stored(name+artifact.SuffixLUT, half16, lut, func(_ context.Context, to io.Writer) error { return source.WriteHalves(to, m.LUT) })})
		if m.RowScale != nil {
			out = b.opNamed("constexpr_blockwise_shift_scale", id, half16, shape, arg{"data", out},
				arg{"scale", b.stored(name+artifact.SuffixRowScale, half16, []int{m.Rows, 1}, func(_ context.Context, to io.Writer) error { return source.WriteHalves(to, m.RowScale) })})
		}
	case artifact.RowInt8:
		q, scale, err := w.Int8(st)
		if err != nil {
			return value{}, err
		}
		half, err := w.int8Scales(st, scale)
		if err != nil {
			return value{}, err
		}
		out = b.opNamed("constexpr_blockwise_shift_scale", id, half16, shape,
			arg{"data", b.stored(name+artifact.SuffixInt8, int8s, shape, func(_ context.Context, to io.Writer) error { return source.WriteInt8(to, q) })},
			arg{"scale", b.stored(name+artifact.SuffixScale, half16, []int{shape[0], 1}, func(_ context.Context, to io.Writer) error { return source.WriteHalves(to, half) })})
	default:
		out = w.plain(b, st)
	}
	b.consts[name] = out
	return out, nil
}

// plain returns a tensor that the artifact stores as it was, as a constant in fp16.
func (w *weights) plain(b *builder, st *artifact.StoredTensor) value {
	return b.storedHalf(st.Spec.Name, st.Spec.Shape, func(ctx context.Context, to io.Writer) error {
		return w.writePlain(ctx, to, st)
	})
}

// writePlain writes a tensor rounded to fp16. A value that is too large for fp16 is an error.
func (w *weights) writePlain(ctx context.Context, to io.Writer, st *artifact.StoredTensor) error {
	var half []uint16
	return w.Plain(ctx, st, func(values []float32) error {
		half = slices.Grow(half[:0], len(values))[:len(values)]
		if err := w.Round(half, values, st.Spec.Name); err != nil {
			return err
		}
		return source.WriteHalves(to, half)
	})
}

// int8Scales returns the scales of an 8-bit matrix in fp16, multiplied by 2^Int8Exponent.
func (w *weights) int8Scales(st *artifact.StoredTensor, scale []float32) ([]uint16, error) {
	scaled := w.ScaledInt8(st, scale)
	half := make([]uint16, len(scaled))
	return half, w.Round(half, scaled, st.Spec.Name+artifact.SuffixScale)
}

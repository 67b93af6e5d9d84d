package coreml

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"path/filepath"

	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// blockElements is the number of values converted between two writes.
const blockElements = 1 << 20

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
		m, err := w.artifact.Palette(st)
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
			arg{"indices", b.stored(name+artifact.SuffixIndices, t, shape, func(_ context.Context, to io.Writer) error { return writeIndices(to, m) })},
			arg{"lut", b.stored(name+artifact.SuffixLUT, half16, lut, func(_ context.Context, to io.Writer) error { return writeHalves(to, m.LUT) })})
		if m.RowScale != nil {
			out = b.opNamed("constexpr_blockwise_shift_scale", id, half16, shape, arg{"data", out},
				arg{"scale", b.stored(name+artifact.SuffixRowScale, half16, []int{m.Rows, 1}, func(_ context.Context, to io.Writer) error { return writeHalves(to, m.RowScale) })})
		}
	case artifact.RowInt8:
		q, scale, err := w.artifact.Int8(st)
		if err != nil {
			return value{}, err
		}
		half, err := w.int8Scales(st, scale)
		if err != nil {
			return value{}, err
		}
		out = b.opNamed("constexpr_blockwise_shift_scale", id, half16, shape,
			arg{"data", b.stored(name+artifact.SuffixInt8, int8s, shape, func(_ context.Context, to io.Writer) error { return writeInt8(to, q) })},
			arg{"scale", b.stored(name+artifact.SuffixScale, half16, []int{shape[0], 1}, func(_ context.Context, to io.Writer) error { return writeHalves(to, half) })})
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
	fill, err := w.artifact.Rows(st)
	if err != nil {
		return err
	}
	rows, cols := st.Spec.Shape[0], 1
	if len(st.Spec.Shape) == 2 {
		cols = st.Spec.Shape[1]
	}
	block := min(rows, max(1, blockElements/cols))
	buf, half := make([]float32, block*cols), make([]uint16, block*cols)
	for r := 0; r < rows; r += block {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(block, rows-r)
		if err := fill(buf[:n*cols], r, r+n); err != nil {
			return err
		}
		if err := w.round(half[:n*cols], buf[:n*cols], st.Spec.Name); err != nil {
			return err
		}
		if err := writeHalves(to, half[:n*cols]); err != nil {
			return err
		}
	}
	return nil
}

// round rounds values of the tensor name to fp16.
func (w *weights) round(half []uint16, values []float32, name string) error {
	kernel.F32ToF16(half, values)
	for i, h := range half {
		if h&0x7c00 == 0x7c00 {
			return fault.Inputf(w.path(), "tensor %q: %v is too large for fp16, the arithmetic of Core ML", name, values[i])
		}
	}
	return nil
}

func (w *weights) path() string { return filepath.Join(w.artifact.Dir, artifact.WeightsFile) }

// guarded runs f, which reads the mapped weights; a file that is truncated meanwhile is an
// error, not a fault.
func (w *weights) guarded(f func() error) error { return safetensors.Guard(w.path(), f) }

// writeIndices writes the indices of a palette as one run of bits, as Core ML packs them. An
// artifact starts each row at a byte; the two differ if a row does not fill its last byte.
func writeIndices(to io.Writer, m *palettize.Matrix) error {
	if m.Cols*m.Bits%8 == 0 {
		_, err := to.Write(m.Indices)
		return err
	}
	var acc uint64
	var bits int
	buf := make([]byte, 0, m.RowBytes()+8)
	for r := range m.Rows {
		row := m.Indices[r*m.RowBytes() : (r+1)*m.RowBytes()]
		for i, x := range row {
			n := min(8, m.Cols*m.Bits-8*i)
			acc |= uint64(x) << bits // the unused bits of a row's last byte are zero
			bits += n
			for bits >= 8 {
				buf = append(buf, byte(acc))
				acc >>= 8
				bits -= 8
			}
		}
		if _, err := to.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	if bits > 0 {
		_, err := to.Write([]byte{byte(acc)})
		return err
	}
	return nil
}

func writeHalves(to io.Writer, values []uint16) error {
	buf := make([]byte, 0, 8192)
	for len(values) > 0 {
		n := min(len(values), cap(buf)/2)
		buf = buf[:0]
		for _, v := range values[:n] {
			buf = binary.LittleEndian.AppendUint16(buf, v)
		}
		if _, err := to.Write(buf); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

func writeInt8(to io.Writer, values []int8) error {
	buf := make([]byte, 0, 8192)
	for len(values) > 0 {
		n := min(len(values), cap(buf))
		buf = buf[:0]
		for _, v := range values[:n] {
			buf = append(buf, byte(v))
		}
		if _, err := to.Write(buf); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// int8Scales returns the scales of an 8-bit matrix in fp16, multiplied by 2^exponent.
func (w *weights) int8Scales(st *artifact.StoredTensor, scale []float32) ([]uint16, error) {
	factor := float32(math.Ldexp(1, w.exponent(st, scale)))
	scaled := make([]float32, len(scale))
	for i, s := range scale {
		scaled[i] = s * factor
	}
	half := make([]uint16, len(scale))
	return half, w.round(half, scaled, st.Spec.Name+artifact.SuffixScale)
}

// exponent returns the power of two by which the scales of an 8-bit matrix are multiplied so
// that they keep their precision in fp16; what the matrix yields is divided by it. It is 0 if
// all scales are normal numbers of fp16, at least 2^-14 (or zero, a row of zeros). Otherwise it
// brings the largest weight to between 1/2 and 1.
func (w *weights) exponent(st *artifact.StoredTensor, scale []float32) int {
	if k, ok := w.exponents[st.Spec.Name]; ok {
		return k
	}
	least, most := float32(math.MaxFloat32), float32(0)
	for _, s := range scale {
		if s > 0 {
			least, most = min(least, s), max(most, s)
		}
	}
	k := 0
	if most > 0 && least < 1.0/(1<<14) {
		_, e := math.Frexp(127 * float64(most))
		k = min(max(0, -e), 14)
	}
	w.exponents[st.Spec.Name] = k
	return k
}

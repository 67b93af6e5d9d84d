package directory

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// Tensor is a tensor of a file of weights.
type Tensor struct {
	Info safetensors.Info
	// Write passes the data to emit, in order and in pieces, which emit does not keep.
	Write   func(ctx context.Context, emit func([]byte) error) error
	Release func() // called when the tensor is written; may be nil
}

// pieceBytes is how much of a tensor is written at once.
const pieceBytes = 8 << 20

// Copy returns a stored tensor of the artifact under another name.
func Copy(s *source.Source, stored, name string) Tensor {
	t, _ := s.File.Tensor(stored)
	return Tensor{
		Info: safetensors.Info{Name: name, DType: t.DType, Shape: slices.Clone(t.Shape)},
		Write: func(ctx context.Context, emit func([]byte) error) error {
			for data := t.Bytes(); len(data) > 0; {
				if err := ctx.Err(); err != nil {
					return err
				}
				n := min(len(data), pieceBytes)
				if err := s.Guard(func() error { return emit(data[:n]) }); err != nil {
					return err
				}
				data = data[n:]
			}
			return nil
		},
		Release: t.Release,
	}
}

// Bytes returns a tensor of data that is computed when it is written.
func Bytes(info safetensors.Info, data func() ([]byte, error)) Tensor {
	return Tensor{Info: info, Write: func(_ context.Context, emit func([]byte) error) error {
		b, err := data()
		if err != nil {
			return err
		}
		return emit(b)
	}}
}

// Matrix returns a tensor of float32 values, which are computed when it is written, in the type of
// info. A value that is too large for it is an error that names it.
func Matrix(info safetensors.Info, values func() []float32) Tensor {
	return Bytes(info, func() ([]byte, error) {
		x := values()
		data, i := Floats(x, info.DType)
		if i >= 0 {
			return nil, fault.Infeasiblef("tensor %q: %v at index %d is too large for %s", info.Name, x[i], i, info.DType)
		}
		return data, nil
	})
}

// Rounded returns the values of a tensor of the model in F16, BF16 or F32 under its own name. A
// value that is too large for the type is an error that names it.
func Rounded(s *source.Source, st *artifact.StoredTensor, t safetensors.DType) Tensor {
	return Tensor{
		Info: safetensors.Info{Name: st.Spec.Name, DType: t, Shape: slices.Clone(st.Spec.Shape)},
		Write: func(ctx context.Context, emit func([]byte) error) error {
			at := 0
			return s.Guard(func() error {
				return s.Plain(ctx, st, func(values []float32) error {
					data, i := Floats(values, t)
					if i >= 0 {
						err := fault.Infeasiblef("%s: tensor %q: %v at index %d is too large for %s", s.Path(), st.Spec.Name, values[i], at+i, t)
						if t == safetensors.F16 {
							err = err.WithHint("--as bf16 has room for it")
						}
						return err
					}
					at += len(values)
					return emit(data)
				})
			})
		},
		Release: func() { s.Release(st) },
	}
}

// Floats returns values in a type, and the index of the first one that is too large for it, or -1.
func Floats(values []float32, t safetensors.DType) ([]byte, int) {
	half, exponent := make([]uint16, len(values)), uint16(0x7c00)
	switch t {
	case safetensors.F32:
		data, err := binary.Append(nil, binary.LittleEndian, values)
		if err != nil {
			panic(err) // a slice of float32
		}
		return data, -1
	case safetensors.BF16:
		exponent = 0x7f80
		kernel.F32ToBF16(half, values)
	case safetensors.F16:
		kernel.F32ToF16(half, values)
	default:
		panic(fmt.Sprintf("directory: values in %v", t))
	}
	data := make([]byte, 2*len(half))
	for i, h := range half {
		if h&exponent == exponent {
			return nil, i
		}
		binary.LittleEndian.PutUint16(data[2*i:], h)
	}
	return data, -1
}

// Fits reports whether a type has every value of a tensor of the model.
func Fits(ctx context.Context, s *source.Source, st *artifact.StoredTensor, t safetensors.DType) (bool, error) {
	fits := true
	err := s.Guard(func() error {
		return s.Plain(ctx, st, func(values []float32) error {
			half, back := make([]uint16, len(values)), make([]float32, len(values))
			if t == safetensors.BF16 {
				kernel.F32ToBF16(half, values)
				kernel.BF16ToF32(back, half)
			} else {
				kernel.F32ToF16(half, values)
				kernel.F16ToF32(back, half)
			}
			fits = fits && slices.Equal(values, back)
			return nil
		})
	})
	return fits, err
}

package ggml

import (
	"fmt"
	"math"

	"github.com/x448/float16"
)

// Dequantize sets dst to the weights in src, whole blocks of type t. A value that is not NaN has
// the bits that ggml's dequantize_row_* compute without fused multiplication. t must be one of
// Types, and src must be as long as dst needs: else the error says so, and dst is unchanged.
func (t Type) Dequantize(dst []float32, src []byte) error {
	if err := t.checkLengths(len(dst), len(src)); err != nil {
		return err
	}
	switch t {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = float16.Frombits(le.Uint16(src[2*i:])).Float32()
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(le.Uint16(src[2*i:])) << 16)
		}
	default:
		b := Block{Type: t}
		n, size := t.BlockWeights(), t.BlockBytes()
		for i := 0; i < len(dst); i += n {
			b.Unpack(src)
			b.Weights(dst[i : i+n])
			src = src[size:]
		}
	}
	return nil
}

// checkLengths returns an error unless a row of n weights fills size bytes.
func (t Type) checkLengths(n, size int) error {
	switch {
	case !t.Converts():
		return fmt.Errorf("ggml: %v cannot be converted", t)
	case n%t.BlockWeights() != 0:
		return fmt.Errorf("ggml: a row of %d weights is not a multiple of %d, the block of %v", n, t.BlockWeights(), t)
	case t.RowBytes(n) != size:
		return fmt.Errorf("ggml: %d weights in %v take %d bytes, not %d", n, t, t.RowBytes(n), size)
	}
	return nil
}

// Quantize stores the row src in dst, in whole blocks of type t. In a type with codes it
// minimizes the sum of weights[i]*(src[i]-w)^2, where w is the weight that is stored; see
// [Block.Fit]. Without weights all count the same. F16 and BF16 round to the nearest value, ties
// to even; beyond the range of F16 that is an infinity.
//
// src must be finite, and weights finite and not negative, one for each element of src. t must
// be one of Types. Else the error says so, and what dst holds is unspecified.
func (t Type) Quantize(dst []byte, src, weights []float32) error {
	if err := t.checkLengths(len(src), len(dst)); err != nil {
		return err
	}
	if err := checkRow(src, weights); err != nil {
		return err
	}
	switch t {
	case F32:
		for i, v := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case F16:
		for i, v := range src {
			le.PutUint16(dst[2*i:], float16.Fromfloat32(v).Bits())
		}
	case BF16:
		for i, v := range src {
			bits := math.Float32bits(v)
			le.PutUint16(dst[2*i:], uint16((bits+0x7fff+bits>>16&1)>>16))
		}
	default:
		b := Block{Type: t}
		n, size := t.BlockWeights(), t.BlockBytes()
		for i := 0; i < len(src); i += n {
			if weights != nil {
				b.Fit(src[i:i+n], weights[i:i+n])
			} else {
				b.Fit(src[i:i+n], nil)
			}
			b.Pack(dst)
			dst = dst[size:]
		}
	}
	return nil
}

func checkRow(src, weights []float32) error {
	if weights != nil && len(weights) != len(src) {
		return fmt.Errorf("ggml: %d importance weights for %d weights", len(weights), len(src))
	}
	for i, v := range src {
		if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
			return fmt.Errorf("ggml: weight %d is %v", i, v)
		}
	}
	for i, v := range weights {
		if !(v >= 0) || v > math.MaxFloat32 {
			return fmt.Errorf("ggml: importance of weight %d is %v", i, v)
		}
	}
	return nil
}

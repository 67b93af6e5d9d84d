package ggml

import (
	"fmt"

	"github.com/x448/float16"
)

// Sizes of the largest block.
const (
	maxWeights = 256
	maxSubs    = 16
)

// Block holds the fields of one block of a type with codes, so that each can be set by itself.
// Weight i is
//
//	scale*level(Codes[i]) - offset
//
// with the level of a code from [Type.Level], and scale and offset of the part that weight i is
// in from [Block.Step]. Every part has Type.PartWeights weights.
type Block struct {
	Type Type
	D    uint16 // fp16: the scale, or the factor of Scales
	// DMin is fp16: in Q2_K, Q4_K and Q5_K the factor of Mins; in Q4_1 and Q5_1 the number that
	// is added to each weight; unused in other types.
	DMin uint16
	// Scales and Mins have an entry for each part, in the types that divide a block. Their
	// ranges are those of Type.ScaleRange and Type.MaxMin.
	Scales [maxSubs]int8
	Mins   [maxSubs]uint8
	Codes  [maxWeights]uint8 // of each weight in order, less than Type.Codes
}

// format is what the types with codes differ in.
type format struct {
	codes              int   // number of codes
	zero               int   // the level of code c is c-zero; unused with a table
	part               int   // weights per scale
	scaleMin, scaleMax int   // integer scales; 0, 0 without them
	minMax             int   // integer mins; 0 without them
	added              bool  // DMin is added to the weights
	lowest             uint8 // the lowest code that Fit uses
	table              *[16]int8
}

// iq4 are the levels of IQ4_NL and IQ4_XS (kvalues_iq4nl in ggml-common.h).
var iq4 = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// formats has an entry for each type with codes.
var formats = [...]format{
	Q4_0: {codes: 16, zero: 8, part: 32},
	Q4_1: {codes: 16, part: 32, added: true},
	Q5_0: {codes: 32, zero: 16, part: 32},
	Q5_1: {codes: 32, part: 32, added: true},
	// Kernels of ggml negate the levels of Q8_0 as int8, so that -128 is not used.
	Q8_0:   {codes: 256, zero: 128, part: 32, lowest: 1},
	Q2_K:   {codes: 4, part: 16, scaleMax: 15, minMax: 15},
	Q3_K:   {codes: 8, zero: 4, part: 16, scaleMin: -32, scaleMax: 31},
	Q4_K:   {codes: 16, part: 32, scaleMax: 63, minMax: 63},
	Q5_K:   {codes: 32, part: 32, scaleMax: 63, minMax: 63},
	Q6_K:   {codes: 64, zero: 32, part: 16, scaleMin: -128, scaleMax: 127},
	IQ4_NL: {codes: 16, part: 32, table: &iq4},
	IQ4_XS: {codes: 16, part: 32, scaleMin: -32, scaleMax: 31, table: &iq4},
}

// format returns the entry of t; a type without codes is a bug of the caller.
func (t Type) format() *format {
	if !t.HasCodes() {
		panic(noCodes(t))
	}
	return &formats[t]
}

func noCodes(t Type) string { return fmt.Sprintf("ggml: blocks of %v have no codes", t) }

// Codes returns the number of codes of a weight: 4 in Q2_K, 256 in Q8_0.
func (t Type) Codes() int { return t.format().codes }

// PartWeights returns how many weights share a scale: 16 or 32.
func (t Type) PartWeights() int { return t.format().part }

// Parts returns how many scales a block has: 8 or 16, 1 in types with blocks of 32 weights.
func (t Type) Parts() int { return t.BlockWeights() / t.PartWeights() }

// ScaleRange returns the least and the largest value of Block.Scales; 0, 0 in types whose only
// scale is Block.D.
func (t Type) ScaleRange() (least, most int) {
	f := t.format()
	return f.scaleMin, f.scaleMax
}

// MaxMin returns the largest value of Block.Mins, 0 in types without them.
func (t Type) MaxMin() int { return t.format().minMax }

// Unpack sets the fields from the first BlockBytes bytes of src. b.Type must be set; fields that
// the type does not use become 0. Pack gives the same bytes back, whatever they are.
func (b *Block) Unpack(src []byte) {
	*b = Block{Type: b.Type}
	src = src[:b.Type.BlockBytes()]
	switch b.Type {
	case Q4_0, IQ4_NL:
		unpackQ4_0(b, src)
	case Q4_1:
		unpackQ4_1(b, src)
	case Q5_0:
		unpackQ5_0(b, src)
	case Q5_1:
		unpackQ5_1(b, src)
	case Q8_0:
		unpackQ8_0(b, src)
	case Q2_K:
		unpackQ2_K(b, src)
	case Q3_K:
		unpackQ3_K(b, src)
	case Q4_K:
		unpackQ4_K(b, src)
	case Q5_K:
		unpackQ5_K(b, src)
	case Q6_K:
		unpackQ6_K(b, src)
	case IQ4_XS:
		unpackIQ4_XS(b, src)
	default:
		panic(noCodes(b.Type))
	}
}

// Pack writes the block to the first BlockBytes bytes of dst. Every field must be in its range:
// what exceeds it is lost.
func (b *Block) Pack(dst []byte) {
	dst = dst[:b.Type.BlockBytes()]
	clear(dst)
	switch b.Type {
	case Q4_0, IQ4_NL:
		packQ4_0(dst, b)
	case Q4_1:
		packQ4_1(dst, b)
	case Q5_0:
		packQ5_0(dst, b)
	case Q5_1:
		packQ5_1(dst, b)
	case Q8_0:
		packQ8_0(dst, b)
	case Q2_K:
		packQ2_K(dst, b)
	case Q3_K:
		packQ3_K(dst, b)
	case Q4_K:
		packQ4_K(dst, b)
	case Q5_K:
		packQ5_K(dst, b)
	case Q6_K:
		packQ6_K(dst, b)
	case IQ4_XS:
		packIQ4_XS(dst, b)
	default:
		panic(noCodes(b.Type))
	}
}

// Step is the grid of a part of a block: a weight with the level l is Scale*l - Offset.
type Step struct{ Scale, Offset float32 }

// Step returns the scale and the offset of part i, as ggml computes them from the fields.
func (b *Block) Step(i int) Step {
	f := b.Type.format()
	d := float16.Frombits(b.D).Float32()
	switch {
	case f.added:
		return Step{d, -float16.Frombits(b.DMin).Float32()}
	case f.minMax > 0:
		return Step{d * float32(b.Scales[i]), float16.Frombits(b.DMin).Float32() * float32(b.Mins[i])}
	case f.scaleMax > 0:
		return Step{Scale: d * float32(b.Scales[i])}
	}
	return Step{Scale: d}
}

// Coefficients returns what D and DMin are multiplied with in weight i, which is
// D*d + DMin*dmin: the level times the integer scale, and the integer min with its sign. With them
// the factors can be fitted again for fixed codes, in any norm.
func (b *Block) Coefficients(i int) (d, dmin float32) {
	f := b.Type.format()
	part := i / f.part
	d = b.Type.Level(b.Codes[i])
	switch {
	case f.added:
		return d, 1
	case f.scaleMax > 0:
		return d * float32(b.Scales[part]), -float32(b.Mins[part])
	}
	return d, 0
}

// Factors returns D and DMin as numbers.
func (b *Block) Factors() (d, dmin float64) {
	return float64(float16.Frombits(b.D).Float32()), float64(float16.Frombits(b.DMin).Float32())
}

// SetFactors sets D and DMin to the finite fp16 values nearest to d and dmin.
func (b *Block) SetFactors(d, dmin float64) {
	b.D, _ = half(d)
	b.DMin, _ = half(dmin)
}

// Weights sets dst, of BlockWeights values, to the weights of the block.
func (b *Block) Weights(dst []float32) {
	levels, n := &levelsOf[b.Type], b.Type.PartWeights()
	for i := range b.Type.Parts() {
		s := b.Step(i)
		codes, part := b.Codes[i*n:][:n], dst[i*n:][:n]
		for j, c := range codes {
			// The conversion keeps the product from being fused with the difference.
			part[j] = float32(s.Scale*levels[c]) - s.Offset
		}
	}
}

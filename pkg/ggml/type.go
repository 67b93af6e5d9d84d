package ggml

import "fmt"

// Type is a storage type of a tensor, by its number in GGUF files (enum ggml_type in ggml.h).
type Type uint32

// The types that this package converts from and to float32. A GGUF file may hold others, whose
// size is known: see [Type.Known].
const (
	F32    Type = 0
	F16    Type = 1
	Q4_0   Type = 2
	Q4_1   Type = 3
	Q5_0   Type = 6
	Q5_1   Type = 7
	Q8_0   Type = 8
	Q2_K   Type = 10
	Q3_K   Type = 11
	Q4_K   Type = 12
	Q5_K   Type = 13
	Q6_K   Type = 14
	IQ4_NL Type = 20
	IQ4_XS Type = 23
	BF16   Type = 30
)

// Types returns the types that this package converts, in the order of their numbers.
func Types() []Type {
	return []Type{F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, BF16}
}

// size is what a reader of files must know of a type.
type size struct {
	name    string
	weights int // per block
	bytes   int // per block
}

// sizes lists all types of ggml 0.25, from the block structures in ggml-common.h.
var sizes = [...]size{
	F32: {"F32", 1, 4}, F16: {"F16", 1, 2}, BF16: {"BF16", 1, 2},
	Q4_0: {"Q4_0", 32, 18}, Q4_1: {"Q4_1", 32, 20}, Q5_0: {"Q5_0", 32, 22}, Q5_1: {"Q5_1", 32, 24},
	Q8_0: {"Q8_0", 32, 34}, IQ4_NL: {"IQ4_NL", 32, 18},
	Q2_K: {"Q2_K", 256, 84}, Q3_K: {"Q3_K", 256, 110}, Q4_K: {"Q4_K", 256, 144}, Q5_K: {"Q5_K", 256, 176},
	Q6_K: {"Q6_K", 256, 210}, IQ4_XS: {"IQ4_XS", 256, 136},

	9: {"Q8_1", 32, 36}, 15: {"Q8_K", 256, 292},
	16: {"IQ2_XXS", 256, 66}, 17: {"IQ2_XS", 256, 74}, 18: {"IQ3_XXS", 256, 98}, 19: {"IQ1_S", 256, 50},
	21: {"IQ3_S", 256, 110}, 22: {"IQ2_S", 256, 82}, 29: {"IQ1_M", 256, 56},
	24: {"I8", 1, 1}, 25: {"I16", 1, 2}, 26: {"I32", 1, 4}, 27: {"I64", 1, 8}, 28: {"F64", 1, 8},
	34: {"TQ1_0", 256, 54}, 35: {"TQ2_0", 256, 66}, 39: {"MXFP4", 32, 17}, 40: {"NVFP4", 64, 36},
	41: {"Q1_0", 128, 18}, 42: {"Q2_0", 64, 18},
}

// ParseType returns the type with the given name, such as "Q4_K", or false.
func ParseType(name string) (Type, bool) {
	for t, s := range sizes {
		if s.name == name && name != "" {
			return Type(t), true
		}
	}
	return 0, false
}

// Known reports whether ggml defines t, so that the size of its blocks is known.
func (t Type) Known() bool { return int64(t) < int64(len(sizes)) && sizes[t].name != "" }

// Converts reports whether t is one of Types.
func (t Type) Converts() bool {
	return t == F32 || t == F16 || t == BF16 || t.HasCodes()
}

// HasCodes reports whether the blocks of t hold integer codes and scales, so that [Block]
// describes them.
func (t Type) HasCodes() bool { return int64(t) < int64(len(formats)) && formats[t].codes > 0 }

// String returns ggml's name of t in upper case, such as "Q4_K".
func (t Type) String() string {
	if !t.Known() {
		return fmt.Sprintf("type %d", uint32(t))
	}
	return sizes[t].name
}

// BlockWeights returns how many weights a block of t holds, 0 if t is unknown. A row is a whole
// number of blocks.
func (t Type) BlockWeights() int {
	if !t.Known() {
		return 0
	}
	return sizes[t].weights
}

// BlockBytes returns the size of a block of t in bytes, 0 if t is unknown.
func (t Type) BlockBytes() int {
	if !t.Known() {
		return 0
	}
	return sizes[t].bytes
}

// RowBytes returns the size in bytes of n weights, a multiple of BlockWeights.
func (t Type) RowBytes(n int) int { return n / t.BlockWeights() * t.BlockBytes() }

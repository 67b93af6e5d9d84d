package artifact

// Suffixes of the tensors that stand for one compressed weight X.weight in an
// artifact. A palettized matrix has indices, a look-up table and optionally row
// scales; an 8-bit matrix has values and one scale a row.
const (
	SuffixIndices  = ".indices"
	SuffixLUT      = ".lut"
	SuffixRowScale = ".row_scale"
	SuffixInt8     = ".q"
	SuffixScale    = ".scale"
)

// KeepBits is the width that stands for "as the checkpoint stores it".
const KeepBits = 16

// The kinds of error compensation that a manifest names.
const (
	GPTQ           = "gptq"
	NoCompensation = "none"
)

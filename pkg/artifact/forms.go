package artifact

// Suffixes of the tensors that store one compressed weight X.weight in an artifact. A palettized
// matrix has indices, a look-up table and optionally row scales; an 8-bit matrix has values and
// one scale per row. For a matrix on another grid see [GridForm].
const (
	SuffixIndices  = ".indices"
	SuffixLUT      = ".lut"
	SuffixRowScale = ".row_scale"
	SuffixInt8     = ".q"
	SuffixScale    = ".scale"
	suffixScales   = ".scales" // of groups of columns, on a grid
)

// KeepBits is the width of a matrix that is kept as the checkpoint stores it.
const KeepBits = 16

// Methods of error compensation.
const (
	LossNorm       = "loss" // of what the model's loss says, to second order
	GPTQ           = "gptq" // of the error of each module's output
	NoCompensation = "none"
)

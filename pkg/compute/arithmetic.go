package compute

import "afmq/internal/kernel"

// Arithmetic is the arithmetic of products with weight matrices. The zero value is F32.
type Arithmetic uint8

const (
	// F32 multiplies and adds in float32: the same bits on AVX2, AVX-512 and NEON.
	F32 = Arithmetic(kernel.F32)
	// I16 multiplies 16-bit integers with exact sums in each block of 128 columns: the same
	// bits on every machine that has it. Matrices other than palettes of up to 4 bits and
	// 8-bit weights are multiplied in F32.
	I16 = Arithmetic(kernel.I16)
	// Split multiplies on bfloat16 tiles (AMX), each operand as a sum of two bfloat16.
	Split = Arithmetic(kernel.Split)
	// BF16 rounds both operands to bfloat16 and sums in float32, as training with automatic
	// mixed precision does.
	BF16 = Arithmetic(kernel.BF16)
)

// String returns the name: "f32", "i16", "split" or "bf16".
func (a Arithmetic) String() string { return kernel.Compute(a).String() }

// Parse returns the arithmetic of this name. An unknown name, and an arithmetic that this machine
// has no instructions for, are errors.
func Parse(name string) (Arithmetic, error) {
	c, err := kernel.ParseCompute(name)
	return Arithmetic(c), err
}

// Names returns the names of the arithmetics that this machine has.
func Names() []string { return kernel.Computes() }

// Fastest returns the fastest arithmetic of this machine that is nearly as exact as F32: for
// products of one row of X, as in decoding, if oneRow is set, else of many rows.
func Fastest(oneRow bool) Arithmetic { return Arithmetic(kernel.Fastest(oneRow)) }

// Level returns the name of the kernels in use: "amx", "avx512", "avx2", "neon" or
// "generic", which is plain Go. The environment variable AFMQ_CPU forces one.
func Level() string { return kernel.Level() }

// LevelError returns an error if AFMQ_CPU names a level that does not exist or that this machine
// does not have. The best level is then in use.
func LevelError() error { return kernel.LevelError() }

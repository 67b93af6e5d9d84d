package compute

import "afmq/internal/kernel"

// Arithmetic is how products with weight matrices are computed. The zero value is F32.
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

// Parse returns the arithmetic of that name. A name that is unknown, or that this machine
// has no instructions for, is an error.
func Parse(name string) (Arithmetic, error) {
	c, err := kernel.ParseCompute(name)
	return Arithmetic(c), err
}

// Names returns the names of the arithmetics that this machine has.
func Names() []string { return kernel.Computes() }

// Fastest returns the fastest arithmetic of this machine that is nearly as exact as F32, for
// products of many rows of X, or of one row as in decoding.
func Fastest(oneRow bool) Arithmetic { return Arithmetic(kernel.Fastest(oneRow)) }

// Level returns the name of the kernels in use: "amx", "avx512", "avx2", "neon" or
// "generic", which is plain Go. The environment variable AFMQ_CPU forces one.
func Level() string { return kernel.Level() }

// LevelError reports that AFMQ_CPU asks for a level that does not exist or that this
// machine lacks, in which case the best level is in use; nil otherwise.
func LevelError() error { return kernel.LevelError() }

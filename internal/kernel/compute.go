package kernel

import (
	"fmt"
	"strings"
)

// Compute is the arithmetic of products with weight matrices. The zero value is F32.
//
// Arithmetics other than F32 round the operands. The package comment defines the rounding, and
// docs/performance.md reports the effect on quality.
type Compute uint8

const (
	F32 Compute = iota // float32 multiply-adds; the same bits on AVX2, AVX-512 and NEON
	// I16 multiplies 16-bit integers: activations with a factor for each 128 columns of a
	// row, table entries with a factor for each panel. The sum of a block is exact, and the
	// result has the same bits on every machine. It applies to palettes of up to 4 bits and
	// to 8-bit weights; other matrices are multiplied in F32.
	I16
	// Split multiplies on bfloat16 tiles (AMX): every operand is represented as the sum of two
	// bfloat16, and the product of the two low parts is omitted. The representation is exact
	// for 16-bit weights and has a relative error of up to 2^-17 for activations.
	Split
	// BF16 rounds both operands to bfloat16 and sums in float32, as automatic mixed precision
	// does. It runs on AMX tiles if the level has them, else on float32 multiply-adds.
	BF16
)

var computeNames = [...]string{F32: "f32", I16: "i16", Split: "split", BF16: "bf16"}

// String returns the name that [ParseCompute] accepts.
func (c Compute) String() string { return computeNames[c] }

// ParseCompute returns the arithmetic with the given name. It is an error if the name is unknown
// or the level in use has no kernels for it. The generic level has all arithmetics, slowly, for
// comparison.
func ParseCompute(name string) (Compute, error) {
	for c, n := range computeNames {
		if n != name {
			continue
		}
		if !Compute(c).available() {
			return F32, fmt.Errorf("this machine has no instructions for arithmetic %q (level %s); choose one of %s",
				name, Level(), strings.Join(Computes(), ", "))
		}
		return Compute(c), nil
	}
	return F32, fmt.Errorf("unknown arithmetic %q; choose one of %s", name, strings.Join(Computes(), ", "))
}

// Computes returns the names of the arithmetics that the level in use supports.
func Computes() []string {
	var names []string
	for c, n := range computeNames {
		if Compute(c).available() {
			names = append(names, n)
		}
	}
	return names
}

// available reports whether the level in use has kernels for the arithmetic.
func (c Compute) available() bool {
	l := currentISA()
	switch {
	case l == isaGeneric, c == F32, c == BF16:
		return true
	case c == I16:
		return hasVNNI(l)
	}
	return tilesInUse()
}

// Fastest returns the fastest arithmetic of this machine with nearly the accuracy of F32, for
// products of one row of X or of many.
func Fastest(oneRow bool) Compute {
	switch {
	case currentISA() == isaGeneric:
		return F32
	case Split.available() && !oneRow:
		return Split
	case I16.available():
		return I16
	}
	return F32
}

// Compute returns the arithmetic of the pool's products with matrices.
func (p *Pool) Compute() Compute { return p.compute }

// With returns a pool with the same workers whose products with matrices, [Pool.MulT] and
// [Pool.Mul], use the given arithmetic (I16 in MulT only). Small products stay in F32. Closing
// either pool closes both.
func (p *Pool) With(c Compute) *Pool { return &Pool{workers: p.workers, compute: c, ctx: p.ctx} }

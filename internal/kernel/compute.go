package kernel

import (
	"fmt"
	"strings"
)

// Compute is the arithmetic of products with weight matrices. The zero value is F32.
//
// All but F32 round the operands and keep sums exact or in float32; see the package
// comment for what each rounds, and docs/performance.md for what that costs.
type Compute uint8

const (
	F32 Compute = iota // float32 multiply-adds; the same bits on AVX2, AVX-512 and NEON
	// I16 multiplies 16-bit integers: activations rounded to them with a factor for each
	// 128 columns of a row, table entries with one for each panel. Sums in a block are
	// exact, and the result has the same bits on every machine. Only palettes of up to 4
	// bits and 8-bit weights have it; other matrices are multiplied in F32.
	I16
	// Split multiplies on bfloat16 tiles (AMX): every operand is the sum of two bfloat16, of
	// which the product of the two small parts is left out. Weights of 16 bits are such sums
	// exactly, activations to 2^-17.
	Split
	// BF16 rounds both operands to bfloat16 and sums in float32, as training with automatic
	// mixed precision does. It runs on tiles where there are any, and on float32
	// multiply-adds elsewhere.
	BF16
)

var computeNames = [...]string{F32: "f32", I16: "i16", Split: "split", BF16: "bf16"}

// String returns the name as the command line has it.
func (c Compute) String() string { return computeNames[c] }

// ParseCompute returns the arithmetic called name, if this machine has instructions for
// it. (The plain Go level has all of them, slowly, for comparison.)
func ParseCompute(name string) (Compute, error) {
	for c, n := range computeNames {
		if n != name {
			continue
		}
		if !Compute(c).available() {
			return F32, fmt.Errorf("this machine has no instructions for arithmetic %q (kernels: %s); there is %s",
				name, Level(), strings.Join(Computes(), ", "))
		}
		return Compute(c), nil
	}
	return F32, fmt.Errorf("unknown arithmetic %q; there is %s", name, strings.Join(Computes(), ", "))
}

// Computes returns the names of the arithmetics that the level in use has.
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

// Fastest returns the fastest arithmetic of this machine that is nearly as exact as F32:
// for products of many rows of X, or of one row.
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

// Compute returns the arithmetic of the pool's products.
func (p *Pool) Compute() Compute { return p.compute }

// With returns a pool of the same workers whose products with matrices, [Pool.MulT] and
// [Pool.Mul], run in the given arithmetic (I16 in MulT only). Small products stay in F32.
// Closing one closes both.
func (p *Pool) With(c Compute) *Pool { return &Pool{workers: p.workers, compute: c} }

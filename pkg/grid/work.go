package grid

import (
	"math/bits"

	"afmq/pkg/ggml"
)

// bitsFor returns the bits of a code that numbers n values.
func bitsFor(n int) int { return bits.Len(uint(n - 1)) }

// blockFitWork is the work of fitting a weight, where a core does 50 billion multiplications a second:
// Q4_K fits 2.5 million weights in that time. The benchmark of this package measures it.
var blockFitWork = map[ggml.Type]int64{
	ggml.Q4_0: 9000, ggml.Q4_1: 12500, ggml.Q5_0: 9500, ggml.Q5_1: 21000, ggml.Q8_0: 11500,
	ggml.Q2_K: 38000, ggml.Q3_K: 26000, ggml.Q4_K: 20000, ggml.Q5_K: 24000, ggml.Q6_K: 22000,
	ggml.IQ4_NL: 9500, ggml.IQ4_XS: 16000,
}

// The work of fitting a weight on other grids, like blockFitWork: symmetric grids have one parameter
// to search, others two.
const (
	affineFitWork    = 26000
	symmetricFitWork = 11000
)

// codesWork is the work of a weight in the rounds of a compensation that is not a matrix product:
// values, nearest codes, derivatives and the search of scales and mins.
const codesWork = 100000

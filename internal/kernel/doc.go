// Package kernel implements the arithmetic that dominates the running time: products with
// weight matrices, small products for attention, and the element-wise operations of a
// transformer. At start-up it selects the widest level that the machine supports: amx, avx512
// or avx2 on amd64, neon on arm64, or generic, which is plain Go. Level amx is avx512 with AMX
// tiles for the arithmetics that use bfloat16.
//
// Every assembly kernel has a twin in Go, in the generic_*.go files, that defines its result.
// The generators in gen write the kernels, and the dispatch_*.go files that call the kernel of
// the level in use.
//
// # Weights
//
// A weight matrix W is [Rows, Cols] as in a checkpoint: one row for each output. It is packed
// once, at load time, into panels of [PanelRows] output rows, [panel][col][16], and keeps its
// type: a fp16 matrix stays fp16 in memory, a palettized one stays indices and look-up tables.
// Every format is widened to exactly the float32 that its stored form denotes:
//
//   - F32, F16, BF16: the value itself;
//   - Int8: float32(q);
//   - LUT: float32(lut[group][index]).
//
// Int8 has, and LUT may have, a factor for each row. MulT multiplies the finished sum of the
// row by it, rounded once, so that the factor costs nothing for each weight. Row, and Mul, which
// sums over rows, widen to q·scale and lut·rowScale, rounded once to float32.
//
// # Arithmetics
//
// The [Compute] of a [Pool] is the arithmetic of its products with matrices. Small products and
// element-wise operations are always F32. In every arithmetic the bits of row i of Y depend
// neither on m, nor on the other rows, nor on the thread count.
//
//   - F32 multiplies the widened weights, in the order of sums of the next section. All vector
//     levels give the same bits.
//   - I16 is implemented by MulT, for Int8 and for palettes of up to 4 bits with finite tables.
//     Rows of X are rounded to 16-bit integers with a factor for each 128 columns, tables with a
//     factor for each panel. The factors are small enough that the sum of a block fits in 32
//     bits, so that it is exact. It is then rounded to float32, multiplied by its factor and added
//     to the sums of the blocks before. The levels that have it, AVX-512 VNNI and generic, give
//     the same bits.
//   - Split represents each operand as the sum of two bfloat16 and omits the product of the two
//     low parts. Sums are in float32, in the order of the tiles. An operand with more than 16
//     significant bits has a relative error of up to 2^-17. Only amx and generic have it.
//   - BF16 rounds both operands to bfloat16 and sums in float32: on tiles in their order,
//     elsewhere in the order of F32. Machines therefore agree only within the rounding of sums.
//
// The statements below about values that are not finite hold for F32. In I16 such a value in X
// makes its row of Y NaN. Split and BF16 give NaN where F32 may give an infinity.
//
// # Order of sums
//
// Every element of every F32 product is summed in the same order. The summed dimension is cut
// into blocks of 256. In a block a single chain of fused multiply-adds runs over ascending k,
// starting from zero; the results of the blocks are added in ascending order. The result is
// independent of the number of rows m, the position in a tile and the thread count. Therefore
// prefill and decode agree to the last bit, MulT, MulNT and MulNN agree with each other, and
// AVX2, AVX-512 and NEON agree. The generic level keeps the order but rounds each product, as Go
// has no float32 FMA; it agrees within about 1e-6 relative.
//
// Reductions of the element-wise operations (softmax, RMSNorm, log-sum-exp, KL) use sixteen
// float64 lanes, element i in lane i mod 16, combined in a fixed order. Elements that contribute
// zero change no bit, whatever their position.
//
// # Threads
//
// Only a [Pool] starts goroutines. Everything that is not a method of Pool runs on the caller's
// goroutine.
//
// # Misuse
//
// The caller guarantees the shapes: a slice that is too short panics with a message that names
// it. No function here reads files, and only [SelectLevel], [LevelError] and [ParseCompute] return
// errors.
package kernel

//go:generate go -C gen run ./gemm -out ../gemm_amd64.s -stubs ../gemm_amd64.go -pkg kernel
//go:generate go -C gen run ./weights -out ../weights_amd64.s -stubs ../weights_amd64.go -pkg kernel
//go:generate go -C gen run ./elementwise -out ../elementwise_amd64.s -stubs ../elementwise_amd64.go -pkg kernel
//go:generate go -C gen run ./palette -out ../palette_amd64.s -stubs ../palette_amd64.go -pkg kernel
//go:generate go -C gen run ./int16 -out ../int16_amd64.s -stubs ../int16_amd64.go -pkg kernel
//go:generate go -C gen run ./amx -out ../amx_amd64.s -stubs ../amx_amd64.go -pkg kernel
//go:generate go -C gen run ./neon -dir ..
//go:generate go -C gen run ./dispatch -dir ..

// PanelRows is the number of output rows in a panel of a packed weight matrix: one for each
// lane of a 512-bit register.
const PanelRows = 16

// blockK is the length of one chain of multiply-adds. A block of one panel is 16 KiB of float32;
// two of them and a strip of activations fit in the first-level cache.
const blockK = 256

// SumBlock is the length of one chain of multiply-adds. A product whose first k terms are
// zero keeps its bits if they are left out, as long as k is a multiple of SumBlock.
const SumBlock = blockK

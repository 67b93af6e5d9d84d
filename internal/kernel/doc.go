// Package kernel holds the arithmetic that everything else waits for: products
// with weight matrices, small products for attention, and the element-wise
// operations of a transformer. When the program starts it chooses the widest level that
// the machine has: amx, avx512 or avx2 on amd64, neon on arm64, or generic, which is plain
// Go; amx is avx512 with tiles for those arithmetics that use bfloat16. Every assembly
// kernel has a twin in Go beside it.
//
// # Weights
//
// A weight matrix W is [Rows, Cols] as checkpoints store it: one row for each
// output. It is packed once, at load, into panels of [PanelRows] output rows,
// [panel][col][16], and keeps its own type there: a fp16 matrix stays fp16 in
// memory, a palettized one stays indices and look-up tables. Every format is
// widened to exactly the float32 that its stored form denotes:
//
//   - F32, F16, BF16: the value itself;
//   - Int8: float32(q);
//   - LUT: float32(lut[group][index]).
//
// The factor of a row, which Int8 has and LUT may have, multiplies the finished sum of
// that row in MulT, rounded once, so that it costs nothing for each weight. Row, and Mul,
// which sums over rows, widen to q·scale and lut·rowScale, rounded once to float32.
//
// # Arithmetics
//
// A [Pool] has a [Compute] in which its products with matrices run; small products and
// element-wise operations are always F32. In all of them row i of Y has the same bits
// whatever m, the rows around it and the thread count.
//
//   - F32 multiplies the widened weights; see the next section. The same bits on every
//     vector level.
//   - I16, MulT only, and only palettes of up to 4 bits with finite tables and Int8: rows of
//     X are rounded to 16 bits with a factor for each 128 columns, tables with one for each
//     panel. The factor is such that no sum of a block can leave 32 bits, so these sums are
//     exact; each is rounded to float32, multiplied with its factor and added to those
//     before. The same bits on every level that has it: AVX-512 VNNI, and generic.
//   - Split takes each operand as the sum of two bfloat16 and leaves out the product of the
//     small parts; sums are in float32, in the order of the tiles. Operands of more than 16
//     significant bits are off by up to 2^-17. It needs tiles, or is generic.
//   - BF16 rounds both operands to bfloat16 and sums in float32: on tiles in their order,
//     elsewhere in that of F32, so that machines agree only within the rounding of sums.
//
// What is said below of values that are not finite holds for F32. In I16 such a value in X
// makes its row NaN; Split and BF16 give NaN where F32 may give an infinity.
//
// # One chain of sums
//
// Every element of every F32 product is summed in the same way. The summed dimension
// is cut into blocks of 256; in a block a single chain of fused multiply-adds
// runs over ascending k from zero; block results are added in ascending order.
// Nothing else takes part in the result: not the number of rows m, not the
// position in a tile, not the thread count. So prefill and decode agree to the
// last bit, MulT, MulNT and MulNN agree with each other, and AVX2 agrees with
// AVX-512 and with NEON. The plain Go path keeps the order but rounds products on
// their own (Go has no float32 FMA), and so agrees within about 1e-6 relative.
//
// Sums of the element-wise operations (softmax, RMSNorm, log-sum-exp, KL) run in
// sixteen float64 lanes, element i in lane i mod 16, combined in a fixed order:
// elements that contribute zero change nothing wherever they stand.
//
// # Threads
//
// A [Pool] is the only thing here that starts goroutines. Everything that is not
// a method of Pool runs on the caller's goroutine.
//
// # Misuse
//
// Shapes are the caller's promise: slices that are too short panic, with a line
// that says which. No function here reads files or returns an error, apart from
// [SelectLevel] and [LevelError].
package kernel

//go:generate go -C gen run ./gemm -out ../gemm_amd64.s -stubs ../gemm_amd64.go -pkg kernel
//go:generate go -C gen run ./weights -out ../weights_amd64.s -stubs ../weights_amd64.go -pkg kernel
//go:generate go -C gen run ./elementwise -out ../elementwise_amd64.s -stubs ../elementwise_amd64.go -pkg kernel
//go:generate go -C gen run ./palette -out ../palette_amd64.s -stubs ../palette_amd64.go -pkg kernel
//go:generate go -C gen run ./int16 -out ../int16_amd64.s -stubs ../int16_amd64.go -pkg kernel
//go:generate go -C gen run ./amx -out ../amx_amd64.s -stubs ../amx_amd64.go -pkg kernel
//go:generate go -C gen run ./neon -dir ..
//go:generate go -C gen run ./dispatch -dir ..

// PanelRows is the number of output rows that a packed weight matrix keeps side
// by side, one in each lane of a 512-bit register.
const PanelRows = 16

// blockK is the length of one chain of multiply-adds. A block of one panel is
// 16 KiB of float32; two of them and a strip of activations stay near the core.
const blockK = 256

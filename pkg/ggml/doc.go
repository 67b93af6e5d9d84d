// Package ggml converts weights to and from the block types of ggml, in which GGUF files store
// them. The formats are defined by the structures in ggml-common.h and the functions
// dequantize_row_* in ggml-quants.c; the description here is that of ggml 0.25.
//
// A block holds 32 or 256 consecutive weights of a row. Parts of it, of 16 or 32 weights, share a
// scale and in some types an offset, which are integers times an fp16 factor of the block:
//
//	type      weights  bytes  bits per weight  parts    scale     offset
//	Q4_0      32       18     4.5              1        fp16      -
//	Q4_1      32       20     5                1        fp16      fp16
//	Q5_0      32       22     5.5              1        fp16      -
//	Q5_1      32       24     6                1        fp16      fp16
//	Q8_0      32       34     8.5              1        fp16      -
//	Q2_K      256      84     2.625            16 x 16  4 bits    4 bits
//	Q3_K      256      110    3.4375           16 x 16  6 bits    -
//	Q4_K      256      144    4.5              8 x 32   6 bits    6 bits
//	Q5_K      256      176    5.5              8 x 32   6 bits    6 bits
//	Q6_K      256      210    6.5625           16 x 16  8 bits    -
//	IQ4_NL    32       18     4.5              1        fp16      -
//	IQ4_XS    256      136    4.25             8 x 32   6 bits    -
//
// The codes of a weight are evenly spaced levels, in IQ4_NL and IQ4_XS entries of a table of 16.
// F16, BF16 and F32 are also converted.
//
// # Whole rows
//
// [Type.Dequantize] and [Type.Quantize] convert rows. Quantize minimizes the squared error
// weighted by the importance of each weight, such as the mean square of the activation that it
// is multiplied with. Its results are the same on every processor.
//
// # Single fields
//
// [Block] holds the fields of one block. A method that quantizes weights one by one and moves
// the error of each to the next, such as GPTQ, works on these in three steps, none of which
// allocates:
//
//   - [Block.Fit] sets the scales from the weights as they are at first.
//   - [Type.Nearest] rounds one weight to a code, given the [Step] of its part, in any order of
//     the weights. The value that it returns is what Dequantize computes.
//   - With the codes fixed, a weight is linear in the factors D and DMin. [Block.Coefficients]
//     has what a fit of them in any norm needs, [Block.SetFactors] sets them, and [Block.Pack]
//     writes the bytes.
package ggml

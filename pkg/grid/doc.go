// Package grid quantizes a weight matrix to the block types of ggml, in which GGUF files store
// weights ([ggml.Type]).
//
// [Quantize] minimizes the squared error of the weights, weighted by the importance of each
// column. [Compensate] minimizes that of the module's output on calibration inputs, by package
// gptq: the scales of the blocks are fitted to the weights first, weighted as the columns that
// follow can compensate. GPTQ then chooses the codes one after another. When it comes to a part of a
// block, it tries the integer scales and mins around those of the fit, each with the codes that it
// leads to, and keeps the best; a block that is one part tries factors. Rounds follow in which the
// factors D and DMin of the blocks are fitted to the codes in the norm of the Hessian, and scales,
// mins and codes are improved given all others.
//
// Rows are independent. Results do not depend on the number of threads.
package grid

// Package grid quantizes a weight matrix to the block types of ggml, in which GGUF files store
// weights ([ggml.Type]).
//
// [Quantize] minimizes the squared error of the weights, weighted by the importance of each
// column. [Compensate] minimizes that of the module's output on calibration inputs, by package
// gptq: the scales of the blocks are fitted to the weights first, weighted as the columns that
// follow can compensate; then the codes are chosen one after another, and the factors D and DMin
// of the blocks are fitted to the codes in the norm of the Hessian. The integer scales of the
// parts keep the values of the first fit.
//
// Rows are independent. Results do not depend on the number of threads.
package grid

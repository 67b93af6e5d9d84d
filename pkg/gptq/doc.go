// Package gptq quantizes the weights of a module so that its output on calibration inputs
// changes least or, with the gradients of its outputs, the loss of the model. It works on any
// grid: what a weight may become, and which parameters the weights share, is behind the interface
// [Codes].
//
// With E = W - Ŵ and the second moment H = Σ x·xᵀ of the inputs, the squared error of the output
// is tr(E·H·Eᵀ). [Factor] holds H and its Cholesky factor; [Refiner] lowers the error of a chunk
// of rows:
//
//  1. GPTQ (Frantar et al. 2022, arXiv:2210.17323) in the form of LDLQ (Chee et al., "QuIP", 2023,
//     arXiv:2307.13304): the columns are quantized one after another, and the error of each is fed
//     back to those that follow through the Cholesky factor, which needs no inverse.
//     On a grid with parts ([PartCodes]), runs of columns with parameters of their own, such as
//     integer scales, each part takes the setting whose codes add least to the error.
//  2. Rounds of two steps. The parameters of the grid are fitted to the codes in the norm of H by
//     conjugate gradients. Then every code in turn is set to the best one given all others
//     (coordinate descent), after a search of the settings of parts in the first rounds.
//
// With [Output], the second moment G of the gradients, an error E of the weights costs tr(G·E·H·Eᵀ).
// Its diagonal weighs rows that share parameters; the whole of it makes rows act together, and
// [RefineTogether] has rounds of all rows after one round of the above.
//
// In a Refiner, each group of rows that shares parameters keeps its best state; a step never raises its
// error.
// Results do not depend on the number of threads.
package gptq

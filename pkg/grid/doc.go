// Package grid stores weight matrices as runtimes read them. A [Grid] says how a matrix is stored
// and what the stored form stands for, and finds the best codes for given weights:
//
//	Palette   look-up tables, for Apple's runtimes (package palettize)
//	Block     blocks of ggml, for llama.cpp
//	Affine    scale and bias for a group of columns, for MLX
//	Integer   scale and optional zero point for a group of columns or a row, for compressed-tensors
//
// [Grid].Quantize minimizes the squared error of the weights, weighted by the importance of each
// column. [Grid].Compensate minimizes that of the module's output on calibration inputs, by package
// gptq: scales are fitted to the weights first, weighted as the columns that follow can compensate.
// GPTQ then chooses the codes one after another. When it comes to a part, the columns that share a
// scale, it tries the scales, mins, biases or zero points around those of the fit, each with the
// codes that it leads to, and keeps the best. Rounds follow in which the scales and biases of the
// groups, or the factors of the blocks, are fitted to the codes in the norm of the Hessian, and
// parts and codes are improved given all others.
//
// Results do not depend on the number of threads.
package grid

// Package compute has the means of heavy computation: worker threads ([Pool]), the arithmetic of
// products with weight matrices ([Arithmetic]), and packed weight matrices ([Matrix]). The
// kernels are selected for the processor when the program starts ([Level]).
//
// Most callers do not need it: a nil *Pool is one of all cores in float32, and options have a
// Threads field. A program that runs several jobs shares one pool of [NewPool] among them.
//
// In [F32] results have the same bits on AVX2, AVX-512 and NEON, and for every number of
// threads. docs/performance.md describes rounding and speed of the other arithmetics.
package compute

// Package compute holds what heavy work runs on: worker threads ([Pool]), the arithmetic
// of products with weight matrices ([Arithmetic]), and the packed matrices themselves
// ([Matrix]). The kernels behind it are chosen for the processor when the program starts;
// see [Level].
//
// Most callers need none of it: everything that takes a *Pool takes nil for all cores and
// float32, and options have a Threads field. A program that runs several jobs makes one
// pool with [NewPool] and shares it.
//
// In [F32] results have the same bits on AVX2, AVX-512 and NEON and for any number of
// threads; docs/performance.md says what the other arithmetics round and what they cost.
package compute

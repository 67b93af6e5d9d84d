// Package device estimates what a model takes on a device: memory, time to the first
// token, tokens per second. It is a roofline: the time of a step is that of its arithmetic
// at the device's peak, or that of the bytes that it must read at the device's peak, which
// is longer. Real programs reach a part of it; docs/devices.md says which part was
// measured, and the order of plans on one device does not depend on it.
//
// One token read or written (decode) reads every weight once, but of the embedding only
// one row, and the keys and values of all tokens before it, or of those in its window in a
// layer with a sliding window; it takes two operations for each weight of a matrix, and
// four for each query head, dimension and token that it attends to. A
// prompt (prefill) reads the weights once, takes two operations for each of its tokens and
// each weight of the layers, the head for its last token alone, and attention over all
// pairs of tokens.
//
// Neglected: activations, norms, softmax, sampling, the unpacking of palettes, keys and
// values written, caches that hold weights from one token to the next, transfers between
// processors, the load from disk, and adapters.
//
// The method is that of Williams, Waterman and Patterson, "Roofline: an insightful visual
// performance model for multicore architectures", Communications of the ACM 52, 2009; the
// guide itself follows what Apple calls Talaria (Hohman et al., CHI 2024).
package device

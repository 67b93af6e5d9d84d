// Package device estimates memory, time to first token and tokens per second of a model on
// a device. The estimate is a roofline: the time of a step is the longer of its arithmetic
// at the peak rate of the device and of the bytes that it reads at the peak bandwidth.
// Programs reach a fraction of it; docs/devices.md gives measured fractions. The order of
// plans on one device does not depend on the fraction.
//
// Decoding one token reads every weight once, except that it reads one row of the embedding,
// and it reads the keys and values of all preceding tokens, in a layer with a sliding window
// of those in the window. Its arithmetic is two operations per weight of a matrix, and four
// per query head, head dimension and position attended to. Prefill reads the weights once.
// Its arithmetic is two operations per token and weight of the layers, the head for the last
// token only, and attention over all pairs of tokens.
//
// Neglected are activations, norms, softmax, sampling, unpacking of palettes, writes of keys
// and values, weights cached between tokens, transfers between processors, loading from disk,
// and adapters.
//
// The method is due to Williams, Waterman and Patterson, "Roofline: an insightful visual
// performance model for multicore architectures", Communications of the ACM 52, 2009. The
// guide follows Talaria (Hohman et al., "Talaria: interactively optimizing machine learning
// models for efficient inference", CHI 2024).
package device

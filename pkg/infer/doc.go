// Package infer is the reference inference engine: it loads a Hugging Face checkpoint or an
// afmq artifact and runs it forward and backward.
//
//   - [Model] holds the weights, packed once for the matrix products. Dense F16, BF16 and
//     F32 weights, palettes and 8-bit rows all stand behind one [Linear].
//   - [Runner] and [Cache] are the state of a run: buffers that are allocated once, and the
//     keys and values of each sequence.
//   - [Sampler] and [Model.Generate] continue a prompt.
//   - [Model.WithAdapter] adds a LoRA adapter to a model that stays shared.
//
// [Runner.Forward] is the one forward pass. It takes any number of sequences of any length
// and appends to their caches: prefill, decode and evaluation are the same call with other
// shapes. Every output element is summed in one fixed order, so the logits of a token have
// the same bits however the tokens are batched and however many threads compute.
// [Runner.ForwardTape] and [Runner.Backward] compute gradients with respect to activations.
//
// The model's description is in package model, its evaluation in package eval.
package infer

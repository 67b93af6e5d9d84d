// Package infer is the reference inference engine: it loads a Hugging Face checkpoint, an
// afmq artifact or a GGUF file and runs it forward and backward.
//
//   - [Open] reads a model into memory, and verifies an artifact on request.
//   - [Model] holds the weights, packed once for the matrix products. [Linear] is a projection
//     whose weights are F16, BF16 or F32, palettes or 8-bit rows.
//   - [Model.Generate] continues a prompt with a [Sampler].
//   - [Model.OpenAdapter] and [Model.WithAdapter] run LoRA adapters on shared weights.
//   - [Runner] and [Cache] are the state of a pass: buffers that are allocated once, and the
//     keys and values of each sequence.
//
// [Runner.Forward] is the forward pass of prefill, decoding and evaluation. It takes any number
// of sequences of any length and appends to their caches. Every output element is summed in one
// fixed order, so that the logits of a token have the same bits for every division into batches
// and every number of threads. [Runner.ForwardTape] and [Runner.Backward] compute gradients with
// respect to activations.
//
// Package model describes models, package eval evaluates them.
package infer

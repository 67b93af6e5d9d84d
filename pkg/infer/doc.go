// Package infer is the reference inference engine: it reads a Hugging Face
// checkpoint or an afmq artifact, runs it, and measures it.
//
// A model is three things that never mix:
//
//   - [Config], what config.json says: the shape and the arithmetic of the model.
//   - [Model], the weights, packed once for the matrix products. Dense F16, BF16
//     and F32 weights, palettes and 8-bit rows all stand behind one [Linear].
//   - [Runner] and [Cache], the state of a run: buffers that are allocated once,
//     and the keys and values of each sequence.
//
// [Runner.Forward] is the one forward pass. It takes any number of sequences at
// once, each of any length, and appends to their caches; prefill, decode and
// evaluation are the same call with other shapes. Every output element is summed
// in one fixed order, so the logits of a token have the same bits however the
// tokens are batched and however many threads work.
//
// Supported are the decoder families with RMSNorm, rotary embedding, grouped
// query attention and SwiGLU: Llama 2 and 3, Mistral, Qwen2, Qwen3 (the shape of
// Apple's on-device model). What a config asks for and this package cannot do is
// refused by name, never approximated.
package infer

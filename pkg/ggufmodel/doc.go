// Package ggufmodel reads the model in a GGUF file: its config, its tensors under the names and in
// the order of rows of a checkpoint, and its tokenizer. It has the names that llama.cpp uses for
// architectures, tensors and pre-tokenizers, also for those who write such files.
//
// [Open] reads files of llama.cpp's architectures "llama", "qwen2" and "qwen3" whose tensors have
// types that package ggml converts. The model is the one that llama.cpp runs: a key that it does
// not read for the architecture has no effect. What the engine cannot run is refused by name: other
// architectures, mixtures of experts, other types of tensors, other scalings of the rotary
// embedding, one part of a split file, pre-tokenizers whose expression package tokenizer lacks.
//
// # Tokens
//
// [Model.Tokenizer] gives the ids that the tokenizers library gives for the tokenizer.json that the
// file was converted from, with what GGUF keeps of it. Special tokens in a text are tokens, as
// there. GGUF does not keep normalizers: text that is not in NFC may have other tokens than with a
// tokenizer.json that normalizes it. A file of the model "llama" has scores in place of merges; the
// merges are those that transformers makes of them. If the scores do not order the tokens, it is
// refused.
//
// # Untrusted files
//
// Memory is bounded by the size of the file. Every size that a key states is checked against the
// tensors before anything of that size is allocated.
//
// llama.cpp's side is that of the source in llama-cpp-python 0.3.36.
package ggufmodel

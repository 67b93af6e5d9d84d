// Package ggufmodel relates models to GGUF files: the names that llama.cpp has for architectures,
// tensors and pre-tokenizers, and the order of rows.
package ggufmodel

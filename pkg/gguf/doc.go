// Package gguf reads and writes GGUF files, versions 2 and 3, little-endian: metadata as keys with
// typed values, the names, shapes and types of the tensors, then their data. It is independent of
// any model. The format is described in ggml's docs/gguf.md; where that is silent, the reader of
// ggml 0.25 (ggml/src/gguf.cpp) decides.
//
// # Values
//
// A value of the metadata is one of the Go types uint8, int8, uint16, int16, uint32, int32,
// uint64, int64, float32, float64, bool and string, a slice of one of them, or a []any of
// slices, which is an array of arrays.
//
// # Reading
//
// [Open] reads and checks everything before the data; [Tensor.ReadRows] and [Tensor.Float32] read
// rows from the file. Tensors of types that package ggml does not convert are listed and can be
// read as bytes.
//
// Files are untrusted. Memory is bounded by the size of the file: each length is checked against
// what is left of it before anything is allocated. The data of the tensors must be inside the
// file, in the order of their names and without gaps other than the padding to the alignment. A
// file that Open accepts can be read to the last byte.
//
// The reader of ggml accepts the headers of the same files, except that it takes any byte other
// than 0 as true, where docs/gguf.md says that only 1 is, and that it has no arrays of arrays. It
// does not compare the size of the data with that of the file.
//
// # Writing
//
// [Create] takes the metadata and the names, types and shapes of all tensors, so that the header
// can be written first and the data streamed after it. Both are written in the given order, and
// the bytes depend only on the arguments: they are those that the gguf package for Python writes
// for the same. A file appears at its path when [Writer.Close] succeeds, and never replaces
// another.
package gguf

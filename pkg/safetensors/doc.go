// Package safetensors reads and writes the safetensors file format: a length, a
// JSON header with the name, type, shape and offsets of every tensor, then the
// tensors' bytes. It is independent of any model. The format is described at
// https://huggingface.co/docs/safetensors; where that is silent, the reference
// implementation (the safetensors library, 0.8) decides.
//
// # Reading
//
// [Open] maps one file into memory. [OpenCheckpoint] maps a model directory: one
// file, or shards and their index. Only the header is read at first. [Tensor.Bytes]
// and [View] are the mapped data itself, [Tensor.Float32] converts any part of it,
// and [Tensor.Release] gives the memory back. A file that cannot be mapped is read
// into the heap.
//
// Files are untrusted. The header must be inside the file, at most 100 MB, UTF-8
// and JSON; types must be known, shapes and offsets must be integers that agree and
// do not overflow, and the tensors must fill the rest of the file without a gap or
// an overlap. Scalars (shape []) and tensors without elements are valid. Memory is
// bounded by the size of the header. A file that Open accepts can be read to the
// last byte.
//
// The reference implementation accepts the same files except for these, which are
// errors here: a duplicate key (it takes the last value), a header that does not
// begin with '{' as the format requires, a tensor written as a JSON array instead
// of an object, more than 32 keys in a tensor, an element type that this package
// lacks (see [DType]), and a dimension or product of more than 63 bits in a shape
// that also has a dimension of 0.
//
// # Files that change while they are mapped
//
// Reading a mapped page beyond the end of a truncated file raises SIGBUS, which
// ends the process. Code that reads mapped data runs inside [Guard], which turns
// the signal into an error that names the file.
//
// # Writing
//
// [Create] takes the names, types and shapes of all tensors, so that the header can
// be written first and the data streamed after it in chunks. The bytes of the file
// depend only on the arguments. Until [Writer.Close] renames it, the file is at
// [StagedPath]; [Resume] continues one that a killed process left.
//
// Tensors are stored contiguously in the given order, since the format allows no
// gaps. The data begins at a multiple of 8 bytes. Descending element size therefore
// keeps every tensor aligned, as does any order in which the size of each tensor is
// a multiple of the element size of the next. Reading an unaligned tensor costs a
// copy. The reference implementation orders by type, largest alignment first, then
// by name; in that order, and with at most one metadata key, the file is identical
// to the one that it writes.
package safetensors

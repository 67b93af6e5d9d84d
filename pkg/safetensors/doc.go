// Package safetensors reads and writes the safetensors file format: a length, a
// JSON header with the name, type, shape and place of every tensor, then their
// bytes. It knows no model. The format is described at
// https://huggingface.co/docs/safetensors; where that is silent, the reference
// implementation (the safetensors library, 0.8) decides.
//
// # Reading
//
// [Open] maps one file, [OpenCheckpoint] a model's directory with one file or with
// shards and their index. Nothing is read but the header, until a [Tensor] is
// looked at: [Tensor.Bytes] and [View] are the mapped file itself,
// [Tensor.Float32] converts any part of it, [Tensor.Release] gives the memory
// back. Where a file cannot be mapped it is read into the heap.
//
// A file is taken for hostile. The header has to be inside the file and at most
// 100 MB, UTF-8 and JSON; types have to be known, shapes and offsets to be
// integers that do not overflow and that agree, and the tensors to fill the rest of
// the file without a gap or an overlap. Scalars (shape []) and tensors without
// elements are legal. Memory is bounded by the header. What Open accepts can be
// read to the last byte.
//
// The reference implementation accepts the same files, with these exceptions, which
// are errors here: a key that stands twice (it takes the last), a header that does
// not begin with '{' though the format asks for that, a tensor written as a JSON
// array instead of an object, more than 32 keys in a tensor, an element type that
// this package does not have (see [DType]), and one dimension or a product beyond
// 63 bits beside a dimension of 0.
//
// # A file that changes
//
// A mapped file that somebody truncates has pages with nothing behind them. To
// touch one is a signal that ends the process, so whatever reads mapped data runs
// inside [Guard], which makes it an error that names the file.
//
// # Writing
//
// [Create] needs the names, types and shapes of all tensors, so that the header
// can be written first and the data streamed after it: nothing is held but the
// chunk at hand. The bytes of the file are a function of the arguments. Until
// [Writer.Close] renames it the file is called NAME.partial; [Resume] continues one
// that a crash left.
//
// Tensors lie in the order given, one behind the other, for the format allows no
// gaps. The data begins at a multiple of 8 bytes, so an order by falling element
// size keeps every tensor aligned, and any other order does as long as each
// tensor's size is a multiple of the element size of the next; one that lies
// unaligned costs its reader a copy. The reference implementation orders by type,
// largest alignment first, then by name; in that order, and with at most one
// metadata key, the file is byte for byte the one it writes.
package safetensors

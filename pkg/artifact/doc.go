// Package artifact defines the compressed model on disk: the stored forms of a tensor
// ([Form], [StoredInfos]), the manifest with its digests and byte ledger ([Manifest],
// [Ledger], [ContentHash]), and what can be said of an artifact without running it.
//
//   - [Open] opens an artifact and gives access to its stored tensors; [OpenVerified] verifies
//     it, too.
//   - [Verify] reads every byte of an artifact and checks it against the manifest.
//   - [Describe] summarizes a checkpoint or an artifact from its headers.
//   - [Diff] compares two artifacts, or an artifact and a checkpoint, layer by layer.
//   - [OpenSource] opens the 16-bit checkpoint that an artifact is made from.
//   - [TensorFinder] finds the tensors of a model in its files.
//
// The format is specified in docs/formats.md. Errors about a file are *[fault.Error] of
// kind [fault.Input]; they name the file and the tensor.
package artifact

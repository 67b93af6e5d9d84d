// Package eval measures a model on text: perplexity, and the divergence from a reference
// model token by token.
//
//   - [ReadCorpus] reads and encodes a text file or a .jsonl file of texts.
//   - [Run] scores it by one of the protocols [Chunk], [LlamaCpp] and [Stride], in windows
//     of a fixed context, and returns a [Result].
//   - [FindOverlap] says what the text shares with the text an artifact was calibrated on.
package eval

// Package eval measures the perplexity of models on text, and their divergence from a reference
// model, token by token.
//
//   - [Run] evaluates a model on a text file, with adapters and a reference if there are any.
//     [Open] does its first half: it reads the files and checks that they belong together.
//   - [ReadCorpus] reads and encodes a text file or a .jsonl file; [ReadTexts] only reads it.
//   - [Score] and [ScoreAll] score a corpus with models in memory, by one of the protocols
//     [Chunk], [LlamaCpp] and [Stride], and return a [Result].
//   - [FindOverlap] compares a text with the text that an artifact was calibrated on.
//   - [Corpus.Repetition] measures how much of a text repeats itself.
//
// Errors that a caller can act on are *[fault.Error]; each function documents their kinds.
package eval

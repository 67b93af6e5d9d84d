// Package gate decides whether a compressed model is no worse than a recorded one.
//
//   - [Run] is the whole gate: it verifies an artifact, scores a text with it, judges the
//     figures and, if asked to, records them as the new baseline.
//   - [Judge] judges recorded figures. It reads no file and runs no model.
//   - [CheckMean] tests one mean over windows, [MeanInterval] gives its interval.
//   - [ReadBaseline] and [Baseline.Write] read and write baselines.
//   - [CheckRepetition] refuses a text whose windows are copies of each other.
//
// A [Baseline] records the figures of a model on every window of a text, with everything
// that they depend on: text, tokenizer, protocol, context, arithmetic and reference. Two
// models that were scored on the same windows are compared by the difference in each
// window. Pairing removes the variation between windows, so it detects far smaller changes
// than two perplexities with their standard errors.
//
// [Judge] is a test of non-inferiority. The null hypothesis is that the new model is worse
// by more than a margin, and the data have to reject it: the model passes only if the upper
// end of the 95 % interval of the mean rise is within the margin. Each end of that interval
// is a one-sided bound of 97.5 %, the usual level of such tests (ICH E9, "Statistical
// Principles for Clinical Trials", 3.3.2 and 5.5; FDA, "Non-Inferiority Clinical Trials to
// Establish Effectiveness", 2016). A model that is worse by exactly the margin passes once
// in forty times. The outcome is [NoWorse], [Worse] if the lower end is above the margin,
// or [Inconclusive]: the text is too short to decide. A short text therefore never passes a
// model for lack of evidence. A margin of 0 cannot be met by any text and is refused.
//
// Windows of one text depend on their neighbours. The standard error is that of batches of
// consecutive windows; see [MeanInterval].
//
// Errors that a caller can act on are *[fault.Error]; each function documents their kinds. A
// model that is worse is an [Outcome] of the verdict, not an error.
package gate

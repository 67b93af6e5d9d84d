// Package compare compares several compressed models on one text and on tasks: it answers which of
// them is worth its size.
//
//   - [Run] scores the text with every model, and with every adapter on the artifact that it is
//     bound to, against a reference if there is one. It takes the results of lm-evaluation-harness
//     (package lmeval) for any of the rows.
//   - [Result] has a row for each model, the paired difference of every two candidates, which of
//     them are dominated, the Pareto front of size and loss, and the best model of each size.
//
// Two candidates are compared by the difference of their divergence from the reference, or of their
// loss without one, in each window of the text. A candidate is better only if the interval of the
// mean difference excludes 0 ([gate.MeanInterval]). The confidence holds for all pairs together: each
// of m intervals has a confidence of 1 − (1 − [gate.Confidence])/m (Bonferroni). Otherwise the two
// are not distinguishable on this text, and none of them is named the better one.
//
// Errors that a caller can act on are *[fault.Error].
package compare

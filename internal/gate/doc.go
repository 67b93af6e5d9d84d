// Package gate decides whether an artifact may ship: it holds what a model makes of a text
// against what was recorded of a former one, window by window, and against limits on size
// and divergence.
//
// A [Baseline] records the figures of every window of a text with all that they depend on:
// text, tokenizer, protocol, context, arithmetic, reference. Two models that are scored on
// the same windows are compared by the difference in each, which leaves out how hard a
// window is and so sees far smaller changes than two perplexities with their errors do.
// [Judge] takes the mean difference, each window weighted by its scored tokens, and its
// 95 % interval ([infer.MeanInterval]). A rise counts when the interval's lower end is
// above the limit: where nothing changed in truth, one gate in forty fails by chance.
//
// The windows are taken as independent. Neighbours of one text are not quite, which makes
// the interval somewhat narrow; a text of many documents is better than one long one.
package gate

// Package sensitivity chooses the bits of each module of a model.
//
// The work has three steps, which can be used separately:
//
//   - [ReadCalibration] draws sequences of tokens from text, reproducibly for a seed.
//   - [Score] estimates, for every projection and every width, the loss of the model if that
//     module alone is quantized to that width; see [Method]. [Scores] are stored in a file,
//     do not depend on a target, and can be validated against the measured divergence.
//   - [MakePlan] chooses a width for each module such that the sum of the scores is minimal
//     within a [Target]. A [Plan] is a file that a person may edit.
//
// Scores of the methods kl and fisher are divergences in nats per token. Their sum over the
// modules of a plan predicts the divergence of the quantized model without error
// compensation: for small changes the divergences of single modules nearly add up.
//
// The bits of a target are of the projections, which alone are chosen then, or of the whole model
// ([OfModel]): embedding and head, which are rows of int8 otherwise, take part as palettes or as these
// rows. [Options].Ends scores them.
//
// The widths are those of palettes or, with [Options].Forms, forms of another grid ([FormWidths]).
//
// [Allocate] solves the underlying problem, a multiple-choice knapsack, to proven optimality.
// With a bound on the bytes of model.safetensors, a plan accounts for the header of the
// file, whose length depends on the choice.
package sensitivity

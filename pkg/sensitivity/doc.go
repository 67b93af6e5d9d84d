// Package sensitivity decides how many bits each module of a model gets.
//
// It does so in three steps that can be taken apart:
//
//   - [ReadCalibration] draws sequences of tokens from text, the same for the same seed.
//   - [Score] estimates, for every projection and some widths, what the model suffers when
//     that module alone goes to that width; see [Method]. [Scores] are kept in a file,
//     serve any target, and can be held against the measured divergence.
//   - [MakePlan] chooses a width for each module so that the summed scores are the least
//     that a [Target] allows. A [Plan] is a file that a person may edit.
//
// Scores of the methods kl and fisher are divergences in nats per token; the sum over the
// modules of a plan is what they predict for the model without error compensation.
//
// [Allocate] chooses one width for every module so that the summed cost is the
// least that a size allows, to proven optimality. A cost is whatever estimates how
// much the model suffers when one module goes to that width; the costs of
// different modules are taken to add up, which for the divergence of small changes
// they nearly do.
package sensitivity

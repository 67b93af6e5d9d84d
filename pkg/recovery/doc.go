// Package recovery trains the LoRA adapters that win back what palettes cost.
//
// The base is an artifact, whose weights stay exactly as the device will read them. An
// adapter adds a product B·A of low rank to every projection (Hu et al. 2021,
// arXiv:2106.09685) and is trained against the 16-bit model that the artifact was made
// from, which runs in the same process. [Run] trains one adapter for each rank asked
// for, side by side: every step they see the same sequences, through which the teacher
// runs once.
//
// # A step
//
// The teacher and each student run forward over a batch, a few rows of logits at a time
// become losses and gradients, and the student runs backward (pkg/infer). No logits of a
// whole batch are ever held. What the backward pass needs is kept for at most 1 GiB of
// intermediate results; a step that needs more is cut into parts whose gradients add up.
//
// Before the first step the base runs over some text, forward and back, for the second
// moments of each module's input, L·Lᵀ, and of the gradients at its output, G·Gᵀ. The init
// is the best approximation of W−Ŵ of its rank in the norm that they give, what moves the
// loss, which a singular value decomposition of Gᵀ·(W−Ŵ)·L solves. And training has A·L in
// place of A, so that AdamW sees inputs that are white.
//
// # What it promises
//
// The output is a function of the artifact, the teacher, the text and the options: not of
// the number of threads, nor of interruptions. A run that was stopped or killed continues
// to the same bytes when it is given again; another job is refused with the difference
// named. Nothing is published before all of it is whole. A loss that is no number ends
// the run, and the best adapters so far are left beside its state.
//
// Adapters are stored as PEFT stores them, and name the artifact that they belong to by
// its content hash. What is reported of an adapter was measured with the values that are
// stored, on documents that were held out of training.
package recovery

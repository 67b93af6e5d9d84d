// Package recovery trains LoRA adapters that recover the quality which a palettized model lost.
//
// The base model is an artifact, whose weights stay as the device reads them. An adapter adds
// a low-rank product B·A to every projection (Hu et al. 2021, arXiv:2106.09685). It is trained
// against the teacher, the 16-bit checkpoint that the artifact was made from, which runs in
// the same process. [Run] needs an artifact, a teacher, text and an output directory; every
// other field of [Options] has a default:
//
//	result, err := recovery.Run(ctx, recovery.Options{
//		Artifact: "my-3.5bit", Teacher: "models/my-model",
//		Data: []string{"train.jsonl"}, Out: "recovered",
//	})
//
// With several Ranks, Run trains one adapter for each side by side: in every step they see the
// same sequences, and the teacher runs once. [ReadRecord] and [ReadMetrics] read the results
// back.
//
// # Text
//
// The text is divided into three parts that share no document. An adapter is trained on the
// first. The validation text is scored at most 20 times during training and chooses the step
// whose weights are kept. The test text is scored once, at the end, and chooses nothing; its
// figures, [TestResult], are the ones to report. Which text is held out depends on its content
// and Options.Seed only. Near duplicates of held-out text, and text that has a passage of it, are
// left out of training. A long document is divided into blocks, with a gap between held-out and
// training text.
//
// # Method
//
// In a step the teacher and each student run forward over a batch; a block of rows of logits
// at a time becomes losses and gradients, and the student runs backward. The logits of a whole
// batch are never in memory. The intermediate results that the backward pass needs are limited
// to 1 GiB; a step that needs more is divided into parts whose gradients are added.
//
// The init runs the base forward and backward over some text and accumulates the second
// moments L·Lᵀ of each module's input and G·Gᵀ of the loss's gradient at its output. The
// adapter starts as the best approximation of W−Ŵ of its rank in the norm that these define,
// which approximates the change of the loss to second order: the truncated singular value
// decomposition of Gᵀ·(W−Ŵ)·L. Training works on A·L instead of A, so that AdamW sees white
// inputs.
//
// # Guarantees
//
// The output depends on the artifact, the teacher, the text, the options and the class of the
// kernels (compute.KernelClass) only, and not on the number of threads or on interruptions. A run
// that was interrupted continues when it is given again, and ends with the same bytes. Steps that
// PyTorch makes ([Torchrun]) depend on its version, processes and device too; Record.Made says what
// made which. A saved state that belongs to another job, or that was changed, is refused. The output
// directory appears only when it is complete. A run whose loss or gradient becomes NaN or infinite
// ends with an error and keeps its last state, with the best adapters so far beside it.
//
// Adapters are stored in PEFT's format. Their metadata has the content hash of the artifact,
// the hashes of the training files and passages of the training text. Reported figures are
// measured with the values as stored.
package recovery

// Package quantize converts a 16-bit checkpoint to an afmq artifact ([Run]), and an artifact
// to a checkpoint that other tools load ([Dequantize]).
//
// # Guarantees
//
// [Run] reads one tensor after another from the mapped files and releases each when it is
// written. It holds a few of the largest tensors in memory, never the model.
//
// The same checkpoint, options and program version give the same bytes, independent of the
// number of threads.
//
// An interrupted run leaves its saved state in ".NAME.afmq" next to the target NAME, and
// nothing else. The same call resumes from it and writes the bytes of an uninterrupted run.
// State of a job that differs in anything the result depends on is refused with an error
// that names the difference. Saved tensors, and the source tensors they were computed from,
// are compared with their SHA-256; saved figures are bound to the job by a digest. A damaged
// item and all later ones are computed again. A run that fails because of its input or its
// options leaves nothing.
//
// Nothing is ignored silently: a tensor that config.json does not define, a missing tensor,
// one of the wrong shape or type, a value that is not finite, two different copies of a tied
// weight, and an override that matches no module are errors that name their subject. The
// exceptions are the tensors of model.Config.Ignorable, which follow from config.json and are
// left out.
//
// # Bits
//
// The options decide the bits of each matrix: one width for all with overrides, a
// sensitivity.Plan, or a sensitivity.PlanOptions, for which Run scores the modules, makes the
// plan and applies it. An infeasible target is an error before any computation.
//
// # Error compensation
//
// With calibration text, modules are quantized by palettize.Compensate in the order of the
// forward pass. The text runs through two models in parallel: the one quantized so far, and
// the original. The Hessian of a module is that of the inputs it receives from the quantized
// modules before it. Before a module is quantized, its weights are adjusted to compensate
// the change of these inputs and, for the two modules that write to the residual stream,
// the change of the residual stream (as in GPTAQ, Li et al. 2025, which has the part of the
// inputs). Memory holds the current layer of each model and the hidden states of the text. A
// module whose Hessian cannot be factored is palettized without compensation; manifest and
// Result carry a warning.
//
// With artifact.LossNorm, the default, the text runs backward through the original model before,
// for the second moments of the gradients of its loss at the outputs of every module
// (sensitivity.CollectOutputs); weights and tables are then chosen by what their errors cost the
// loss (gptq.Output). They are in the saved state until the run ends.
//
// # Stored forms
//
// A projection becomes a palette (artifact.Palette), or is kept with an override to 16 bits.
// The embedding and an untied head become int8 rows (artifact.RowInt8), or palettes by an override
// or a plan; a palettized head counts as a projection in bits per weight, the embedding does not.
// Errors of a palettized embedding are compensated if it is also the head. Norms and biases are copied in
// their own type. A tied checkpoint may store the shared weight under either name or under
// both; the artifact stores it once, as the embedding.
//
// Tensors are written in the order of model.Config.Tensors, and the parts of a tensor in the
// order indices, lut, row_scale, or q, scale. config.json keeps the keys of the source in
// their order and adds
//
//	"quantization_config": {
//	  "quant_method": "afmq",
//	  "version": 1,
//	  "bits": 4,            // of every projection that modules does not list
//	  "group_rows": 16,     // output rows that share a look-up table
//	  "modules": {"model.layers.0.mlp.down_proj": {"bits": 8}, ...}
//	}
//
// where modules lists every projection of another width, a palettized embedding or head and, with
// 16 bits, every matrix that was kept. manifest.json is an artifact.Manifest. Tokenizer files,
// generation_config.json and chat templates are copied unchanged; other files of the
// checkpoint are not copied.
package quantize

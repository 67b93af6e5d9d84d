// Package quantize turns a 16-bit checkpoint into an afmq artifact, holds an
// artifact against its own manifest, and turns one back into a checkpoint.
//
// # Promises
//
// [Run] reads tensor after tensor from the mapped files and lets each go when it
// is written. It holds a few of the largest tensors at most, never the model.
//
// The same checkpoint, options and version of the program give the same bytes,
// whatever the number of threads.
//
// A run that is interrupted leaves its state in ".NAME.afmq" beside the target
// NAME and nothing else; the same call goes on from there and ends with the bytes
// that an uninterrupted run would have written. What an earlier run wrote is
// hashed again before it is trusted, and so are the source tensors it came from.
// A run that fails because of its input or its options leaves nothing.
//
// Nothing is passed over in silence: a tensor that config.json has no place for,
// one that is missing, misshapen or of a type that cannot be quantized, a value
// that is not finite, two copies of a tied weight that differ, an override that
// matches nothing are errors that name what they are about. The exception is
// what [infer.Config.Ignorable] lists: tensors that can be computed from
// config.json, which are left out.
//
// # Bits
//
// Options say what each matrix gets: the same width everywhere but for overrides, a
// sensitivity.Plan, or a sensitivity.PlanOptions, for which Run scores the modules, makes the
// plan and follows it. A target that cannot be reached is refused before anything is
// computed, or calibration text read.
//
// # Error compensation
//
// With calibration text, modules are quantized in the order of the forward pass, layer
// after layer, by palettize.Compensate. The text runs through two models side by side: the
// quantized one as far as it is made, and the original. A module's Hessian is that of the
// input that it will really see, and its weights are first moved so that they make up for
// what the modules before it did to that input and, for the two modules that write to
// the residual stream, to the residual stream (as in GPTAQ, Li et al. 2025, which has
// the input's part). Only the current layer of each model is in memory, beside the hidden
// states of the text. A module whose Hessian cannot be factored is palettized without
// compensation, and the manifest and the Result say so.
//
// # What becomes of each tensor
//
// A projection becomes a palette ([infer.Palette]) of the default width or of its
// override's, or stays as it is with an override to 16. The embedding and an
// untied head become int8 rows ([infer.RowInt8]); an override makes the head a
// palette, and it then counts as a projection. Norms and biases are copied in
// their own type. A tied checkpoint may store the shared weight under either
// name, or under both; the artifact has it once, as the embedding.
//
// Tensors are written in the order of [infer.Config.Tensors]; the parts of one in
// the order of their suffixes (indices, lut, row_scale; q, scale). config.json
// keeps the source's keys in their order and gains
//
//	"quantization_config": {
//	  "quant_method": "afmq",
//	  "version": 1,
//	  "bits": 4,            // of every projection that modules does not list
//	  "group_rows": 16,     // output rows that share a look-up table
//	  "modules": {"model.layers.0.mlp.down_proj": {"bits": 8}, ...}
//	}
//
// where modules lists every projection of another width, every palettized head,
// and with 16 bits every matrix that was kept. manifest.json is
// [infer.Manifest]. Tokenizer files, generation_config.json and chat templates
// are copied byte for byte; other files of the checkpoint are not.
package quantize

// Package adapter reads and writes LoRA adapters (Hu et al. 2021, arXiv:2106.09685) in the
// file format of Hugging Face PEFT: adapter_config.json and adapter_model.safetensors.
//
//   - [Open] reads an adapter and checks that it belongs to a model; [Read] only reads it.
//   - [Write] writes one.
//   - [ParseConfig] parses adapter_config.json.
//
// An adapter that afmq trained is bound to its artifact: the artifact's content hash is in the
// metadata of adapter_model.safetensors, and [Open] refuses another base. Features of PEFT
// beyond plain LoRA (DoRA, modules_to_save, a trained bias) are refused by name.
//
// Errors about a file are *[fault.Error] of kind [fault.Input].
package adapter

// Package adapter reads and writes LoRA adapters (Hu et al. 2021, arXiv:2106.09685) in the
// file format of Hugging Face PEFT: adapter_config.json and adapter_model.safetensors.
//
// An adapter that afmq trained is bound to its artifact: the artifact's content hash is in
// the metadata of adapter_model.safetensors, and [Open] refuses another base. What PEFT can
// do beyond plain LoRA (DoRA, modules_to_save, a trained bias) is refused by name.
//
// Errors about a file are *[fault.Error] of kind [fault.Input].
package adapter

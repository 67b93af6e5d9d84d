// Package model describes a language model without running it: what config.json says of
// its shape and arithmetic ([Config], [Rope]), the names, shapes and roles of its tensors
// ([Config.Tensors]), and its tokenizer ([OpenTokenizer], [SameTokenizer]).
//
// Supported are decoder families with RMSNorm, rotary position embedding, grouped-query attention
// and a gated feed-forward network ([Families]). A config that requires anything else is refused by
// name, never approximated.
//
// Errors about a file are *[fault.Error] of kind [fault.Input]; they name the file and the
// key or tensor.
package model

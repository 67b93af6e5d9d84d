// Package chat turns conversations into prompts, by the chat template that a checkpoint or a
// GGUF file has.
//
// A chat template is a Jinja template in tokenizer_config.json, chat_template.jinja or the key
// tokenizer.chat_template. The text that [Template.Render] returns is the one of
// apply_chat_template in transformers 5.23.0 with jinja2 3.1.6, for the same template, messages,
// tools and variables. It has the special tokens as text: encode it without adding others.
//
// # Messages
//
// A [Message] is decoded from a message of a request in OpenAI's format, with all its keys in
// their order, as transformers passes it. Keys of value null are dropped, as there. Reasoning
// under one of the names reasoning_content, thinking and reasoning is passed under the first two
// as well. A content that is a list of parts of type text is passed as that list to a template
// that reads lists; for others the texts are joined with newlines. Parts of other types (images,
// audio, files) are refused.
//
// # Errors
//
// A call of raise_exception in a template is an error of kind [fault.Usage] with its message: the
// template refuses the conversation. What Jinja knows and this package does not render is an
// error of kind [fault.Input] that names file, line and construct, and so is an operation that
// fails in Python too. No text is returned with an error.
//
// # Untrusted templates
//
// Templates are programs by others. They reach no files, no environment and no Go values, and
// have budgets of steps, memory and depth: a template that loops without end is an error after
// about two seconds.
package chat

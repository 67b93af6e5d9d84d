// Package batch runs many requests on one model at the same time, by continuous batching (Yu et
// al. 2022, "Orca: A Distributed Serving System for Transformer-Based Generative Models"): every
// forward pass has the next token of each sequence that is being generated and a part of each
// prompt that is being read, whatever adapter they use.
//
//   - [New] starts an [Engine] for a model.
//   - [Engine.Do] runs requests and waits for their results.
//   - [Engine.Close] waits for those that run, or ends them.
//
// What a request is answered does not depend on the others. A row of a product has the same bits
// whatever is beside it ([compute.Pool.MulT]); prompts are always computed in one arithmetic and
// generated tokens in another, which may be the same; and random numbers belong to a request.
//
// A prompt that begins as another did takes its keys and values from there: those of sequences
// that are under way, and of finished ones, which are kept as long as there is memory for them.
package batch

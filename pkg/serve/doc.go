// Package serve is an HTTP server of language models with the API of OpenAI: completions, chat
// completions and models, with log-probabilities of prompts, so that clients and evaluation
// harnesses run without a change. It runs requests on a [batch.Engine].
//
//   - [New] makes a [Server] of a model and its adapters. Each adapter is a model of the API.
//   - [Server] is an [http.Handler]; [Server.Serve] serves a listener until a context ends, with
//     the time-outs and limits that a server on a network needs.
//
// # The API
//
//	POST /v1/completions       continue or score texts or token ids
//	POST /v1/chat/completions  answer a conversation
//	GET  /v1/models            the model and its adapters
//	POST /tokenize             text or conversation to token ids
//	POST /detokenize           token ids to text
//	GET  /tokenizer_info       special tokens and chat template
//	GET  /health               whether the server takes requests
//	GET  /metrics              counters, in the format of Prometheus
//	GET  /                     a page to chat with the model
//
// The fields and errors of the first three are those of OpenAI's API reference; the next three are
// those of vLLM's server, which evaluation harnesses use. A field that the server cannot follow is
// refused by name. docs/serve.md describes all.
//
// The same request gives the same answer, to the last digit, whatever else the server does. A
// request without a seed has the seed 0.
package serve

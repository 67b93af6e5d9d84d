package infer

import "iter"

// BatchTokens is how many tokens to run at once if nothing limits them: enough to amortize the
// unpacking of weights, few enough for the activations to stay in the processor's caches.
const BatchTokens = 2048

// Batches divides n sequences into ranges [first, end) of at most limit tokens, or of one
// longer sequence. length returns the number of tokens of sequence i.
func Batches(n, limit int, length func(i int) int) iter.Seq2[int, int] {
	return func(yield func(first, end int) bool) {
		for first := 0; first < n; {
			end, tokens := first+1, length(first)
			for end < n && tokens+length(end) <= limit {
				tokens += length(end)
				end++
			}
			if !yield(first, end) {
				return
			}
			first = end
		}
	}
}

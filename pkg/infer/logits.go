package infer

// LogitRows returns how many rows of logits, [vocab] each, to compute at once: few enough to take
// some MB, enough for an efficient product.
func LogitRows(vocab int) int { return min(max(1<<20/vocab, 64), 512) }

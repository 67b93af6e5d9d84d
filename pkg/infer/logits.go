package infer

// LogitRows returns how many rows of logits are computed at once: a few MB of them, enough
// rows for the product to be worth its packing.
func LogitRows(vocab int) int { return min(max(1<<20/vocab, 64), 512) }

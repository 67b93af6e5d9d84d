package batch

// Stats are counters of an engine since its start.
type Stats struct {
	Running, Waiting int   // sequences, now
	Finished         int64 // sequences that ended by themselves
	Cancelled        int64 // sequences whose caller ended them
	Refused          int64 // calls of Do that failed with ErrBusy
	PromptTokens     int64 // tokens of prompts that were computed
	CachedTokens     int64 // tokens of prompts that were taken from other sequences
	GeneratedTokens  int64
	Passes           int64 // forward passes
	CacheBytes       int64 // keys and values of running sequences
	PrefixBytes      int64 // keys and values kept of finished ones
}

// Stats returns the counters.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats
}

package kernel

// bestISA returns the widest level of this machine: every arm64 that Go runs on has
// NEON.
func bestISA() isa { return isaNEON }

// peak does n rounds of multiply-adds and returns the operations that were.
func peak(l isa, n int) int {
	if l == isaNEON {
		return peakNEON(n)
	}
	return peakGo(n)
}

// stream reads b, whose length is a positive multiple of 512. What is fetched ahead is
// left to the processor.
func stream(l isa, b []byte, _ bool) uint64 {
	if l == isaNEON {
		return streamNEON(&b[0], len(b))
	}
	return streamGo(b)
}

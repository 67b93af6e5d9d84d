//go:build !unix

package main

// ignoreWriteSignals has nothing to do: here no signal reports a failed write.
func ignoreWriteSignals() {}

//go:build !amd64 && !arm64

package kernel

const isaVectors = isaGeneric

var isaNames = [...]string{isaGeneric: "generic"}

package kernel

const (
	isaNEON isa = 1

	isaVectors = isaNEON
)

var isaNames = [...]string{isaGeneric: "generic", isaNEON: "neon"}

package kernel

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// EnvLevel is the environment variable that forces a level.
const EnvLevel = "AFMQ_CPU"

// isa is an instruction set that kernels are written for. Higher is wider. The list
// of an architecture, isaNames, stands in its level_*.go, with the last of them that
// has no tiles, isaVectors.
type isa uint8

const isaGeneric isa = 0

var (
	current  atomic.Uint32 // the isa in use
	levelErr error         // why AFMQ_CPU could not be honoured
)

func init() {
	current.Store(uint32(bestISA()))
	if name := os.Getenv(EnvLevel); name != "" {
		if err := SelectLevel(name); err != nil {
			levelErr = fmt.Errorf("%s: %w", EnvLevel, err)
		}
	}
}

// Level returns the name of the kernels in use: "amx", "avx512" or "avx2" on amd64,
// "neon" on arm64, or "generic". In F32 the vector levels give the same bits; generic
// agrees within 1e-6.
func Level() string { return isaNames[current.Load()] }

// LevelError reports that the environment variable AFMQ_CPU asks for a level
// that does not exist or that this machine lacks, and nil otherwise. In that case
// the best level of the machine is in use. A main program checks it before it
// does anything else, so that a forced level is never ignored in silence.
func LevelError() error { return levelErr }

// SelectLevel switches to the named level, "generic" or another of its architecture,
// for every call that starts afterwards. An unknown name, or a level whose
// instructions this machine lacks, is an error and changes nothing.
func SelectLevel(name string) error {
	for l, n := range isaNames {
		if n != name {
			continue
		}
		if isa(l) > bestISA() {
			return fmt.Errorf("this machine lacks the instructions of level %q; it has %s",
				name, strings.Join(Levels(), ", "))
		}
		current.Store(uint32(l))
		return nil
	}
	return fmt.Errorf("unknown level %q; this machine has %s", name, strings.Join(Levels(), ", "))
}

// Levels returns the names of the levels that this machine can run, narrowest
// first.
func Levels() []string { return append([]string(nil), isaNames[:bestISA()+1]...) }

// currentISA returns the instruction set for all that does not run on tiles.
func currentISA() isa { return min(isa(current.Load()), isaVectors) }

// tilesInUse reports whether products may run on tiles.
func tilesInUse() bool { return isa(current.Load()) > isaVectors }

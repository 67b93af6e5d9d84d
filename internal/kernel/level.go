package kernel

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// EnvLevel is the environment variable that forces a level.
const EnvLevel = "AFMQ_CPU"

// isa is an instruction set with kernels. A higher value is a wider set. The level_*.go file
// of an architecture has their names, isaNames, and the widest without tiles, isaVectors.
type isa uint8

const isaGeneric isa = 0

var (
	current  atomic.Uint32 // the isa in use
	levelErr error         // error of the level that AFMQ_CPU names
)

func init() {
	current.Store(uint32(bestISA()))
	if name := os.Getenv(EnvLevel); name != "" {
		if err := SelectLevel(name); err != nil {
			levelErr = fmt.Errorf("%s: %w", EnvLevel, err)
		}
	}
}

// Level returns the name of the level in use: "amx", "avx512" or "avx2" on amd64, "neon" on
// arm64, or "generic". In F32 the vector levels give the same bits, and generic agrees with them
// within about 1e-6 relative.
func Level() string { return isaNames[current.Load()] }

// LevelError returns an error if the environment variable AFMQ_CPU names a level that does not
// exist or that this machine does not support; the best level is in use then. A main program
// checks it first, so that a request for a level is never silently ignored.
func LevelError() error { return levelErr }

// SelectLevel selects the named level, one of [Levels], for every call that starts afterwards. A
// level that is unknown, or that this machine does not support, is an error and changes nothing.
func SelectLevel(name string) error {
	for l, n := range isaNames {
		if n != name {
			continue
		}
		if isa(l) > bestISA() {
			return fmt.Errorf("this machine lacks the instructions of level %q; choose one of %s",
				name, strings.Join(Levels(), ", "))
		}
		current.Store(uint32(l))
		return nil
	}
	return fmt.Errorf("unknown level %q; choose one of %s", name, strings.Join(Levels(), ", "))
}

// Levels returns the names of the levels that this machine supports, narrowest first.
func Levels() []string { return append([]string(nil), isaNames[:bestISA()+1]...) }

// currentISA returns the instruction set of everything but tiles.
func currentISA() isa { return min(isa(current.Load()), isaVectors) }

// tilesInUse reports whether the level in use has AMX tiles.
func tilesInUse() bool { return isa(current.Load()) > isaVectors }

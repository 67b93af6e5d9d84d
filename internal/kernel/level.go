package kernel

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// EnvLevel is the environment variable that forces a level.
const EnvLevel = "AFMQ_CPU"

// isa is an instruction set that kernels are written for. Higher is wider.
type isa uint8

const (
	isaGeneric isa = iota
	isaAVX2
	isaAVX512
	isaAMX // AVX-512 kernels, and tiles for the arithmetics that use bfloat16
)

var isaNames = [...]string{isaGeneric: "generic", isaAVX2: "avx2", isaAVX512: "avx512", isaAMX: "amx"}

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

// Level returns the name of the kernels in use: "amx", "avx512", "avx2" or "generic".
// In F32 the vector levels give the same bits; generic agrees within 1e-6.
func Level() string { return isaNames[current.Load()] }

// LevelError reports that the environment variable AFMQ_CPU asks for a level
// that does not exist or that this machine lacks, and nil otherwise. In that case
// the best level of the machine is in use. A main program checks it before it
// does anything else, so that a forced level is never ignored in silence.
func LevelError() error { return levelErr }

// SelectLevel switches to the named level, one of "generic", "avx2", "avx512" and
// "amx", for every call that starts afterwards. An unknown name, or a level
// whose instructions this machine lacks, is an error and changes nothing.
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
func currentISA() isa { return min(isa(current.Load()), isaAVX512) }

// tilesInUse reports whether products may run on tiles.
func tilesInUse() bool { return isa(current.Load()) == isaAMX }

// gemmFunc multiplies a strip of mr rows of A with np neighbouring panels of B:
//
//	C[r][16·p+j] (+)= Σk A[k][r]·B[p][k][j],  r < mr, p < np, j < 16, k < kc
//
// a is [kc][mr]; panel p of B starts ps floats after panel p−1 and is [kc][16];
// rows of C are ldc floats apart. add is 0 to store the block's sums, 1 to add
// them to C. mr and np belong to the function.
type gemmFunc func(kc int, a, b *float32, ps int, c *float32, ldc, add int)

// maxStrip is the most rows that any level's microkernel takes at once.
const maxStrip = 14

// gemmSet is the microkernels of one level.
type gemmSet struct {
	mr    int                           // rows of its tallest microkernel
	funcs [maxStrip + 1][nWide]gemmFunc // by rows, by log2 of panels; nil where there is none
}

// nWide counts the panel widths 1, 2, 4 and 8 of microkernels.
const nWide = 4

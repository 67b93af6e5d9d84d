package kernel

import (
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// eachLevel runs f at every level of this machine, and then restores the level.
func eachLevel(t *testing.T, f func(t *testing.T, level string)) {
	t.Helper()
	before := Level()
	defer selectLevel(t, before)
	for _, name := range Levels() {
		selectLevel(t, name)
		t.Run(name, func(t *testing.T) { f(t, name) })
	}
}

func selectLevel(tb testing.TB, name string) {
	tb.Helper()
	if err := SelectLevel(name); err != nil {
		tb.Fatal(err)
	}
}

// vectorLevels returns the levels that must give identical bits.
func vectorLevels() []string { return Levels()[1:] }

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// normals returns n normally distributed values.
func normals(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// sameBits fails unless a and b have the same bits; any two NaN are equal.
func sameBits(t *testing.T, what string, a, b []float32) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%s: lengths %d and %d", what, len(a), len(b))
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) && (a[i] == a[i] || b[i] == b[i]) {
			t.Fatalf("%s: element %d of %d is %v (%#x) and %v (%#x)",
				what, i, len(a), a[i], math.Float32bits(a[i]), b[i], math.Float32bits(b[i]))
		}
	}
}

func TestSelectLevel(t *testing.T) {
	before := Level()
	defer selectLevel(t, before)
	for _, name := range Levels() {
		selectLevel(t, name)
		if Level() != name {
			t.Errorf("Level() = %q after selecting %q", Level(), name)
		}
	}
	for _, name := range []string{"", "sse", "AVX2"} {
		at := Level()
		if err := SelectLevel(name); err == nil || !strings.Contains(err.Error(), "generic") {
			t.Errorf("SelectLevel(%q) = %v, want an error that lists the levels", name, err)
		}
		if Level() != at {
			t.Errorf("a failed SelectLevel changed the level to %q", Level())
		}
	}
	if top := isa(len(Levels())); int(top) < len(isaNames) {
		err := SelectLevel(isaNames[top])
		if err == nil || !strings.Contains(err.Error(), "lacks") {
			t.Errorf("SelectLevel of a level that this machine lacks: %v", err)
		}
	}
}

// TestLevelFromEnvironment runs this test binary again with AFMQ_CPU set.
func TestLevelFromEnvironment(t *testing.T) {
	if os.Getenv("KERNEL_TEST_CHILD") != "" {
		msg := ""
		if err := LevelError(); err != nil {
			msg = err.Error()
		}
		os.Stdout.WriteString("level=" + Level() + " error=" + msg + "\n")
		return
	}
	for _, c := range []struct{ env, want string }{
		{"generic", "level=generic error=\n"},
		{"", "level=" + Levels()[len(Levels())-1] + " error=\n"},
		{"avx1024", `error=AFMQ_CPU: unknown level "avx1024"`},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLevelFromEnvironment$")
		cmd.Env = append(os.Environ(), "KERNEL_TEST_CHILD=1", EnvLevel+"="+c.env)
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("AFMQ_CPU=%s: %q (%v), want %q", c.env, out, err, c.want)
		}
	}
}

package infer

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/safetensors"
)

// fixtures are tiny random checkpoints of every family and variation, with the
// logits that Hugging Face transformers computes from them in float32;
// scripts/make_model_fixtures.py wrote them.
const fixtures = "testdata/models"

func newPool(t testing.TB, threads int) *compute.Pool {
	p := compute.NewPool(threads)
	t.Cleanup(p.Close)
	return p
}

// eachFixture runs f for every checkpoint in the fixtures.
func eachFixture(t *testing.T, f func(t *testing.T, dir string)) {
	entries, err := os.ReadDir(fixtures)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 12 {
		t.Fatalf("%d fixtures; they were more", len(entries))
	}
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) { f(t, filepath.Join(fixtures, e.Name())) })
	}
}

// expected reads the token ids [n] and the logits [n, vocab] of a fixture.
func expected(t *testing.T, dir string) (ids []int32, logits []float32) {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tensor := func(name string) *safetensors.Tensor {
		x, ok := f.Tensor(name)
		if !ok {
			t.Fatalf("%s has no %s", dir, name)
		}
		return x
	}
	view, err := safetensors.View[int32](tensor("ids"))
	if err != nil {
		t.Fatal(err)
	}
	ids = slices.Clone(view)
	x := tensor("logits")
	logits = make([]float32, x.NumElements())
	if err := x.Float32(logits, 0); err != nil {
		t.Fatal(err)
	}
	return ids, logits
}

func openFixture(t *testing.T, dir string, pool *compute.Pool) *Model {
	t.Helper()
	m, err := OpenWeights(bg, dir, OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// allLogits runs the tokens through a new runner, in pieces of the given sizes
// and the rest at once, and returns the logits of every position.
func allLogits(m *Model, pool *compute.Pool, ids []int32, pieces ...int) []float32 {
	r, cache := m.NewRunner(pool), m.NewCache(len(ids))
	logits := make([]float32, len(ids)*m.Config.VocabSize)
	for at := 0; at < len(ids); {
		n := len(ids) - at
		if len(pieces) > 0 {
			n, pieces = pieces[0], pieces[1:]
		}
		hidden := r.Forward([]Segment{{Cache: cache, Tokens: ids[at : at+n]}})
		r.Logits(logits[at*m.Config.VocabSize:], hidden, n)
		at += n
	}
	return logits
}

// Logits agree with transformers to 1e-4 relative, element by element; where a
// logit is near zero, relative to the root mean square of all.
func TestLogitsAgreeWithTransformers(t *testing.T) {
	pool := newPool(t, 2)
	eachFixture(t, func(t *testing.T, dir string) {
		ids, want := expected(t, dir)
		m := openFixture(t, dir, pool)
		got := allLogits(m, pool, ids)
		if len(got) != len(want) {
			t.Fatalf("%d logits, expected %d", len(got), len(want))
		}
		squares := 0.0
		for _, x := range want {
			squares += float64(x) * float64(x)
		}
		rms := math.Sqrt(squares / float64(len(want)))
		if rms < 0.1 {
			t.Fatalf("the logits have a root mean square of %v: nothing to compare", rms)
		}
		worst, at := 0.0, 0
		for i := range want {
			e := math.Abs(float64(got[i])-float64(want[i])) / max(math.Abs(float64(want[i])), rms)
			if !(e <= worst) {
				worst, at = e, i
			}
		}
		if !(worst <= 1e-4) {
			t.Errorf("position %d, token %d: %v, transformers has %v (relative error %.2g)", at/m.Config.VocabSize, at%m.Config.VocabSize, got[at], want[at], worst)
		}
		t.Logf("largest relative error %.2g", worst)
	})
}

// A prompt run at once, in pieces, or token by token gives the same bits, on any
// number of threads. Frequencies that depend on the length are the exception:
// keys that are in a cache keep their rotation.
func TestPiecesAgree(t *testing.T) {
	one, three := newPool(t, 1), newPool(t, 3)
	eachFixture(t, func(t *testing.T, dir string) {
		ids, _ := expected(t, dir)
		m := openFixture(t, dir, one)
		want := allLogits(m, one, ids)
		if !slices.Equal(allLogits(m, three, ids), want) {
			t.Error("three threads give other logits than one")
		}
		if m.Config.Rope.Type == "dynamic" || m.Config.Rope.Type == "longrope" {
			return
		}
		if !slices.Equal(allLogits(m, three, ids, 7, 1, 5), want) {
			t.Error("pieces give other logits than the whole")
		}
		single := make([]int, len(ids))
		for i := range single {
			single[i] = 1
		}
		if !slices.Equal(allLogits(m, one, ids, single...), want) {
			t.Error("single tokens give other logits than the whole")
		}
	})
}

// Sequences in one batch do not see each other.
func TestBatchesAgree(t *testing.T) {
	pool := newPool(t, 2)
	eachFixture(t, func(t *testing.T, dir string) {
		ids, _ := expected(t, dir)
		m := openFixture(t, dir, pool)
		vocab, d := m.Config.VocabSize, m.Config.HiddenSize
		parts := [][]int32{ids[:9], ids[3:4], ids[5:]}
		r := m.NewRunner(pool)
		batch := make([]Segment, len(parts))
		n := 0
		for i, p := range parts {
			batch[i] = Segment{Cache: m.NewCache(len(ids)), Tokens: p}
			n += len(p)
		}
		hidden := slices.Clone(r.Forward(batch))
		for i, p := range parts {
			got := make([]float32, len(p)*vocab)
			r.Logits(got, hidden[:len(p)*d], len(p))
			hidden = hidden[len(p)*d:]
			if !slices.Equal(got, allLogits(m, pool, p)) {
				t.Errorf("sequence %d has other logits in a batch", i)
			}
			if batch[i].Cache.Len != len(p) {
				t.Errorf("cache %d holds %d positions of %d", i, batch[i].Cache.Len, len(p))
			}
		}
	})
}

// A runner that saw a longer batch gives the same logits as a new one.
func TestRunnerIsReusable(t *testing.T) {
	pool := newPool(t, 2)
	eachFixture(t, func(t *testing.T, dir string) {
		ids, _ := expected(t, dir)
		m := openFixture(t, dir, pool)
		r, cache := m.NewRunner(pool), m.NewCache(len(ids))
		r.Forward([]Segment{{Cache: cache, Tokens: ids}})
		cache.Reset()
		got := make([]float32, 5*m.Config.VocabSize)
		r.Logits(got, r.Forward([]Segment{{Cache: cache, Tokens: ids[:5]}}), 5)
		if !slices.Equal(got, allLogits(m, pool, ids[:5])) {
			t.Error("a used runner gives other logits")
		}
	})
}

// TestDecodeAllocatesNothing holds a decoded token to no allocation once the buffers are
// there, but for the rotation's table, which grows in larger and larger steps.
func TestDecodeAllocatesNothing(t *testing.T) {
	for i, name := range []string{"qwen3-biases", "qwen3-biases", "mistral-window"} {
		threads := min(i+1, 2)
		pool := compute.NewPool(threads)
		m, err := OpenWeights(bg, filepath.Join("testdata", "models", name), OpenOptions{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		r := m.NewRunner(pool)
		cache := m.NewCache(32)
		logits := make([]float32, m.Config.VocabSize)
		batch := []Segment{{Cache: cache, Tokens: []int32{3}}}
		step := func() {
			if cache.Len == 32 {
				cache.Reset()
			}
			r.Logits(logits, r.Forward(batch), 1)
		}
		for range 40 {
			step()
		}
		if got := testing.AllocsPerRun(50, step); got != 0 {
			t.Errorf("%s, %d threads: %v allocations in a decoded token", name, threads, got)
		}
		pool.Close()
	}
}

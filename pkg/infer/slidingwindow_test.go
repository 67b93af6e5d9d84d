package infer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"afmq/pkg/compute"
)

// longFixture has a sequence longer than a chain of sums, a window, and the cache of a
// layer with a window.
const longFixture = "mistral-window-long"

// withWindow opens the long fixture with another window in the given layers.
func withWindow(t *testing.T, pool *compute.Pool, window int, sliding ...bool) (*Model, []int32) {
	t.Helper()
	dir := filepath.Join(fixtures, longFixture)
	m := openFixture(t, dir, pool)
	m.Config.SlidingWindow, m.Config.Sliding = window, sliding
	ids, _ := expected(t, dir)
	return m, ids
}

// The logits of a token have the same bits with any window however its sequence is cut,
// whatever stands beside it in the batch, and whether the cache holds all positions or
// discards those that no token sees any more.
func TestWindowPiecesAgree(t *testing.T) {
	pool := newPool(t, 2)
	rng := rand.New(rand.NewPCG(3, 4))
	for i, window := range []int{1, 2, 8, 8, 8, 255, 256, 257, 300, 1199, 1201} {
		sliding := [][]bool{{true, true}, {true, false}, {false, true}}[i%3]
		t.Run(fmt.Sprint(window, sliding), func(t *testing.T) {
			m, ids := withWindow(t, pool, window, sliding...)
			want := allLogits(m, pool, ids)
			single := slices.Repeat([]int{1}, len(ids))
			if !slices.Equal(allLogits(m, pool, ids, single...), want) {
				t.Error("single tokens give other logits than the whole")
			}
			for range 2 {
				var pieces []int
				for left := len(ids); left > 0; left -= pieces[len(pieces)-1] {
					pieces = append(pieces, min(left, 1+rng.IntN(1<<(1+rng.IntN(11)))))
				}
				if !slices.Equal(allLogits(m, pool, ids, pieces...), want) {
					t.Errorf("pieces of %v give other logits than the whole", pieces)
				}
			}
			vocab, d := m.Config.VocabSize, m.Config.HiddenSize
			whole, wide := m.NewCache(len(ids)), m.NewCache(4000)
			r := m.NewRunner(pool)
			r.Forward([]Segment{{Cache: wide, Tokens: ids[:777]}})
			hidden := r.Forward([]Segment{{Cache: whole, Tokens: ids[:900]}, {Cache: wide, Tokens: ids[777:]}})
			got := make([]float32, 900*vocab)
			r.Logits(got, hidden[:900*d], 900)
			if !slices.Equal(got, want[:900*vocab]) {
				t.Error("a sequence has other logits in a batch")
			}
			got = got[:(len(ids)-777)*vocab]
			r.Logits(got, hidden[900*d:], len(ids)-777)
			if !slices.Equal(got, want[777*vocab:]) {
				t.Error("a continued sequence has other logits in a batch")
			}
		})
	}
}

// A window that reaches the beginning of the sequence gives the bits of no window; one
// position less gives others.
func TestWideWindowIsNone(t *testing.T) {
	pool := newPool(t, 2)
	m, ids := withWindow(t, pool, 0)
	want := allLogits(m, pool, ids)
	for _, window := range []int{len(ids), len(ids) + 1, 1 << 30} {
		m, _ := withWindow(t, pool, window, true, true)
		if !slices.Equal(allLogits(m, pool, ids), want) {
			t.Errorf("a window of %d changes the logits of %d tokens", window, len(ids))
		}
	}
	m, _ = withWindow(t, pool, len(ids)-1, true, true)
	got, last := allLogits(m, pool, ids), (len(ids)-1)*m.Config.VocabSize
	if !slices.Equal(got[:last], want[:last]) || slices.Equal(got[last:], want[last:]) {
		t.Error("the first token is out of the sight of others than the last, or of none")
	}
}

// With one layer, a token's logits are those of the tokens in its window alone: rotary
// embeddings depend on distances only.
func TestWindowIsItsTokens(t *testing.T) {
	pool := newPool(t, 2)
	for _, window := range []int{1, 2, 7, 64, 255, 256, 257, 300} {
		m, ids := withWindow(t, pool, window, true)
		m.Config.Layers, m.Blocks = 1, m.Blocks[:1]
		vocab := m.Config.VocabSize
		got := allLogits(m, pool, ids)
		m.Config.SlidingWindow, m.Config.Sliding = 0, nil
		for _, pos := range []int{0, 1, window - 1, window, 254, 255, 256, 511, 512, 513, 767, 1023, 1024, len(ids) - 1} {
			alone := allLogits(m, pool, ids[max(0, pos-window+1):pos+1])
			want := alone[len(alone)-vocab:]
			for i := range want {
				if e := math.Abs(float64(got[pos*vocab+i] - want[i])); !(e <= 1e-4*max(1, math.Abs(float64(want[i])))) {
					t.Fatalf("window %d, position %d: logit %d is %v, of the tokens alone %v", window, pos, i, got[pos*vocab+i], want[i])
				}
			}
		}
	}
}

// The passes that train and quantize agree with the plain one where their caches discard
// positions, also if layers of different size share their memory.
func TestWindowPassesAgree(t *testing.T) {
	pool := newPool(t, 2)
	for _, sliding := range [][]bool{{true, true}, {true, false}, {false, true}} {
		m, ids := withWindow(t, pool, 8, sliding...)
		sequences := [][]int32{ids, ids[100:], ids[:30]}
		batch := func() (b []Segment) {
			for _, s := range sequences {
				b = append(b, Segment{Cache: m.NewCache(len(s)), Tokens: s})
			}
			return b
		}
		r := m.NewRunner(pool)
		want := slices.Clone(r.Forward(batch()))
		for _, recompute := range []bool{false, true} {
			if !slices.Equal(r.ForwardTape(batch(), NewTape(TapeOptions{Recompute: recompute})), want) {
				t.Errorf("%v, recompute %v: the taped hidden states differ", sliding, recompute)
			}
		}
		w := newWalk(t, m, pool, sequences)
		for w.Layer() < len(m.Blocks) {
			if !slices.Equal(rest(t, w, m), want) {
				t.Errorf("%v: a walk differs from layer %d on", sliding, w.Layer())
			}
			w.Advance()
		}
	}
}

// Gradients with recomputation have the bits of those without, over more than one part.
func TestWindowRecomputes(t *testing.T) {
	pool := newPool(t, 2)
	m, ids := withWindow(t, pool, 8, true, false)
	var grads [2][][]float32
	for i, recompute := range []bool{false, true} {
		r := m.NewRunner(pool)
		batch := []Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}}
		tape := NewTape(TapeOptions{Recompute: recompute})
		hidden := slices.Clone(r.ForwardTape(batch, tape))
		grad := make([]float32, len(hidden))
		lossOf(r, batch, hidden, grad)
		r.Backward(batch, tape, grad, func(p Projected) { grads[i] = append(grads[i], slices.Clone(p.G)) })
	}
	if len(grads[0]) != 14 || !slices.EqualFunc(grads[0], grads[1], slices.Equal[[]float32]) {
		t.Error("gradients differ")
	}
}

// A cache for a long sequence keeps a window and a part in the layers that slide.
func TestWindowCacheIsSmall(t *testing.T) {
	pool := newPool(t, 1)
	m, _ := withWindow(t, pool, 8, true, false)
	c, perPosition := m.NewCache(100_000), m.Config.KVHeads*m.Config.HeadDim
	if got := len(c.layers[0].keys); got != (8+766)*perPosition {
		t.Errorf("the keys of a window take %d numbers for %d of a position", got, perPosition)
	}
	if got := len(c.layers[1].values); got != 100_000*perPosition || c.Capacity() != 100_000 {
		t.Errorf("the values of a layer without a window take %d numbers for %d of a position", got, perPosition)
	}
	m.Config.SlidingWindow = 1 << 30
	if got := len(m.NewCache(50).layers[0].keys); got != 50*perPosition {
		t.Errorf("a window longer than the cache takes %d numbers", got)
	}
}

package infer

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/adapter"
)

// A sequence that continues a copy of another's first positions, or a truncated cache, has the
// bits of one that was computed whole, with any window. Where a window has discarded what the
// next token attends to, the copy is refused and the cache left empty.
func TestCachePrefixes(t *testing.T) {
	pool := newPool(t, 2)
	windows, lengths, step := []int{0, 8, 300}, []int{40, 700, 1000}, 50
	if testing.Short() { // in an emulator
		windows, lengths, step = []int{0, 8}, []int{40}, 20
	}
	for _, window := range windows {
		var sliding []bool
		if window > 0 {
			sliding = []bool{true, false}
		}
		m, ids := withWindow(t, pool, window, sliding...)
		r := m.NewRunner(pool)
		d := m.Config.HiddenSize
		if testing.Short() {
			ids = ids[:60]
		}
		want := slices.Clone(r.Forward([]Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}}))
		for _, computed := range lengths {
			// The capacity is that of a longer sequence, so that a window discards positions.
			source := m.NewCache(4000)
			r.Forward([]Segment{{Cache: source, Tokens: ids[:computed]}})
			copied, refused := 0, 0
			for n := 0; n <= computed; n += step {
				c := m.NewCache(len(ids))
				if !c.CopyPrefix(source, n) {
					refused++
					if c.Len != 0 || source.Holds(n) {
						t.Fatalf("window %d: %d of %d positions: length %d, holds %v", window, n, computed, c.Len, source.Holds(n))
					}
					continue
				}
				copied++
				got := r.Forward([]Segment{{Cache: c, Tokens: ids[n:]}})
				if !slices.Equal(got, want[n*d:]) {
					t.Errorf("window %d: %d of %d positions were copied; the rest differs", window, n, computed)
				}
			}
			if copied < 1 || window == 0 && refused > 0 || window == 8 && computed == 1000 && refused == 0 {
				t.Errorf("window %d: %d copies, %d refusals of %d positions", window, copied, refused, computed)
			}
			short := computed / 20 * 19
			if source.Truncate(short) {
				got := r.Forward([]Segment{{Cache: source, Tokens: ids[short:]}})
				if !slices.Equal(got, want[short*d:]) {
					t.Errorf("window %d: a cache truncated from %d to %d differs", window, computed, short)
				}
			} else if window == 0 {
				t.Errorf("a cache of %d positions cannot be truncated to %d", computed, short)
			}
		}
	}
}

// A pass over sequences of several adapters gives each the bits that it has alone.
func TestAdaptersInOnePass(t *testing.T) {
	pool := newPool(t, 2)
	base := openFixture(t, adapterModel, pool)
	read, err := base.OpenAdapter(adapterFixture, true)
	if err != nil {
		t.Fatal(err)
	}
	other := *read
	other.Modules = maps.Clone(read.Modules)
	for name, w := range other.Modules { // a second adapter, without the last layer
		w.B = slices.Clone(w.B)
		slices.Reverse(w.B)
		other.Modules[name] = w
	}
	maps.DeleteFunc(other.Modules, func(name string, _ adapter.Weights) bool { return strings.Contains(name, "layers.1.") })
	models := []*Model{nil, base.WithAdapter(read), base.WithAdapter(&other), base}
	d := base.Config.HiddenSize
	ids := make([]int32, 90)
	for i := range ids {
		ids[i] = int32(i*7) % int32(base.Config.VocabSize)
	}
	var alone [][]float32
	for _, m := range models {
		if m == nil {
			m = base
		}
		alone = append(alone, slices.Clone(m.NewRunner(pool).Forward([]Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}})))
	}
	if slices.Equal(alone[0], alone[1]) || slices.Equal(alone[1], alone[2]) || !slices.Equal(alone[0], alone[3]) {
		t.Fatal("the adapters have no effect, or the same")
	}
	for _, order := range [][]int{{0, 1, 2, 3}, {1, 1, 2, 0}, {2, 1, 2, 1}, {1}, {1, 1}} {
		// Prompts of several lengths, then single tokens: both ways of applying adapters.
		for _, runner := range []*Model{base, models[1]} {
			if runner != base && slices.Contains(order, 0) {
				continue // nil is the runner's model
			}
			r := runner.NewRunner(pool)
			batch := make([]Segment, len(order))
			at := make([]int, len(order))
			for i, which := range order {
				batch[i] = Segment{Cache: base.NewCache(len(ids)), Tokens: ids[:10+25*i], Model: models[which]}
			}
			for range 3 {
				hidden := r.Forward(batch)
				for i, which := range order {
					n := len(batch[i].Tokens)
					if !slices.Equal(hidden[:n*d], alone[which][at[i]*d:(at[i]+n)*d]) {
						t.Fatalf("order %v: tokens %d to %d of sequence %d differ from those alone", order, at[i], at[i]+n, i)
					}
					hidden = hidden[n*d:]
					at[i] += n
					batch[i].Tokens = ids[at[i] : at[i]+1]
				}
			}
		}
	}
}

package infer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// tapeBatch cuts ids into two sequences of different length.
func tapeBatch(m *Model, ids []int32) []Segment {
	cut := len(ids) * 2 / 3
	return []Segment{{Cache: m.NewCache(cut), Tokens: ids[:cut]}, {Cache: m.NewCache(len(ids) - cut), Tokens: ids[cut:]}}
}

// lossOf returns the mean nats of the batch's tokens, each given those before it in
// its sequence, and, where grad is not nil, its gradient with respect to the final
// hidden states.
func lossOf(r *Runner, batch []Segment, hidden, grad []float32) float64 {
	vocab, d := r.model.Config.VocabSize, r.model.Config.HiddenSize
	loss, row := 0.0, 0
	for _, s := range batch {
		for i := range s.Tokens {
			logits := make([]float32, vocab)
			if i+1 < len(s.Tokens) {
				r.Logits(logits, hidden[row*d:(row+1)*d], 1)
				loss += kernel.LogSumExp(logits) - float64(logits[s.Tokens[i+1]])
				kernel.Softmax(logits, 1)
				logits[s.Tokens[i+1]]--
			}
			if grad != nil {
				r.HiddenGradient(grad[row*d:(row+1)*d], logits, hidden[row*d:(row+1)*d], 1)
			}
			row++
		}
	}
	return loss
}

// TestBackwardAgainstFiniteDifferences moves every projection of every fixture along
// a random direction: the slope of the loss is Σ g·ΔW·x.
func TestBackwardAgainstFiniteDifferences(t *testing.T) {
	eachFixture(t, func(t *testing.T, dir string) {
		pool := newPool(t, 2)
		m := openFixture(t, dir, pool)
		ids, _ := expected(t, dir)
		if len(ids) > 24 {
			ids = ids[:24]
		}
		r := m.NewRunner(pool)
		rng := rand.New(rand.NewPCG(1, 2))
		directions := map[string][]float32{} // ΔW [out, in]
		key := func(layer int, kind string) string { return fmt.Sprintf("%d.%s", layer, kind) }
		kinds := projectionKinds(m)
		for l := range m.Blocks {
			for _, kind := range kinds {
				w := m.Blocks[l].Linear(kind).Weight
				d := make([]float32, w.Rows()*w.Cols())
				for i := range d {
					d[i] = float32(rng.NormFloat64()) * 0.02
				}
				directions[key(l, kind)] = d
			}
		}
		var slopes [2]map[string]float64
		for i, recompute := range []bool{false, true} {
			slopes[i] = map[string]float64{}
			tape := NewTape(TapeOptions{Recompute: recompute, Outputs: true})
			batch := tapeBatch(m, ids)
			hidden := slices.Clone(r.ForwardTape(batch, tape))
			grad := make([]float32, len(hidden))
			lossOf(r, batch, hidden, grad)
			r.Backward(batch, tape, grad, func(p Projected) {
				w, name := p.Linear.Weight, key(p.Layer, p.Kind)
				if w != m.Blocks[p.Layer].Linear(p.Kind).Weight {
					t.Fatalf("%s comes with another weight", name)
				}
				y := make([]float32, p.N*w.Rows())
				p.Linear.Apply(pool, y, p.X, p.N)
				if !slices.Equal(y, p.Y[:len(y)]) {
					t.Errorf("%s: the output is not that of the input", name)
				}
				pool.MulT(y, p.X, p.N, compute.PackF32(w.Rows(), w.Cols(), directions[name]))
				slopes[i][name] = kernel.Dot(y, p.G[:len(y)])
			})
		}
		for l := range m.Blocks {
			for _, kind := range kinds {
				lin := m.Blocks[l].Linear(kind)
				before, name := lin.Weight, key(l, kind)
				at := func(h float32) float64 {
					w := make([]float32, before.Rows()*before.Cols())
					for i := range before.Rows() {
						before.Row(w[i*before.Cols():(i+1)*before.Cols()], i)
					}
					for i, d := range directions[name] {
						w[i] += h * d
					}
					lin.Weight = compute.PackF32(before.Rows(), before.Cols(), w)
					batch := tapeBatch(m, ids)
					return lossOf(r, batch, r.Forward(batch), nil)
				}
				const h = 1.0 / 32
				want := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
				lin.Weight = before
				for i := range slopes {
					if d := math.Abs(slopes[i][name] - want); d > 2e-3*math.Abs(want)+2e-4 {
						t.Errorf("%s, recompute %v: slope %v, by differences %v", name, i == 1, slopes[i][name], want)
					}
				}
			}
		}
	})
}

// TestForwardTapeIsForward holds the taped pass to the plain one bit by bit.
func TestForwardTapeIsForward(t *testing.T) {
	eachFixture(t, func(t *testing.T, dir string) {
		pool := newPool(t, 1)
		m := openFixture(t, dir, pool)
		ids, _ := expected(t, dir)
		r := m.NewRunner(pool)
		want := slices.Clone(r.Forward(tapeBatch(m, ids)))
		if !slices.Equal(r.ForwardTape(tapeBatch(m, ids), NewTape(TapeOptions{})), want) {
			t.Error("the hidden states differ")
		}
	})
}

// rest returns the final hidden states of a walk's batches, run by a fork from where the walk is.
func rest(t *testing.T, w *Walk, m *Model) (out []float32) {
	t.Helper()
	f, err := w.Fork(m)
	if err != nil {
		t.Fatal(err)
	}
	for f.Layer() < len(m.Blocks) {
		f.Advance()
	}
	for b := range f.Batches() {
		out = append(out, f.Final(b)...)
	}
	return out
}

// newWalk starts a walk on the heap.
func newWalk(t *testing.T, m *Model, pool *compute.Pool, sequences [][]int32, batches ...int) *Walk {
	t.Helper()
	w, err := m.NewWalk(sequences, WalkOptions{Pool: pool, Batches: batches})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestWalkIsForward holds a walk to the plain pass bit by bit, with steps repeated
// and with its rest run at once from every layer.
func TestWalkIsForward(t *testing.T) {
	eachFixture(t, func(t *testing.T, dir string) {
		pool := newPool(t, 2)
		m := openFixture(t, dir, pool)
		ids, _ := expected(t, dir)
		r := m.NewRunner(pool)
		batch := tapeBatch(m, ids)
		want := slices.Clone(r.Forward(batch))
		w := newWalk(t, m, pool, [][]int32{batch[0].Tokens, batch[1].Tokens})
		if w.Batches() != 1 || w.Tokens(0) != len(ids) {
			t.Fatalf("%d batches, %d tokens", w.Batches(), w.Tokens(0))
		}
		for w.Layer() < len(m.Blocks) {
			if !slices.Equal(rest(t, w, m), want) {
				t.Fatalf("the rest from layer %d on differs", w.Layer())
			}
			in := slices.Clone(w.AttentionIn(0))
			if !slices.Equal(w.AttentionIn(0), in) {
				t.Fatal("a step cannot be repeated")
			}
			w.AttentionOut(0)
			mid := slices.Clone(w.FeedForwardIn(0))
			w.FeedForwardOut(0)
			if !slices.Equal(w.FeedForwardIn(0), mid) {
				t.Fatal("a step cannot be repeated")
			}
			w.Advance()
		}
		if !slices.Equal(w.Final(0), want) {
			t.Fatal("the final norm differs")
		}
	})
}

// A model that is read layer by layer, through which batches run one after another, has the
// gradients of a pass over the whole model, bit by bit, at every projection.
func TestStreamedBackward(t *testing.T) {
	eachFixture(t, func(t *testing.T, dir string) {
		pool := newPool(t, 2)
		m := openFixture(t, dir, pool)
		ids, _ := expected(t, dir)
		batch := tapeBatch(m, ids)
		r := m.NewRunner(pool)
		tape := NewTape(TapeOptions{Outputs: true})
		hidden := slices.Clone(r.ForwardTape(batch, tape))
		grad := make([]float32, len(hidden))
		r.SampledGradient(grad, hidden, len(ids), rand.New(rand.NewPCG(1, 2)))
		type seen struct{ x, y, g []float32 }
		want := map[string]seen{}
		name := func(p Projected) string { return fmt.Sprintf("%d.%s", p.Layer, p.Kind) }
		r.Backward(batch, tape, grad, func(p Projected) {
			want[name(p)] = seen{slices.Clone(p.X), slices.Clone(p.Y), slices.Clone(p.G)}
		})

		s, err := OpenStream(dir, OpenOptions{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(s.LoadEmbedding(bg))
		w := newWalk(t, s.Model, pool, [][]int32{batch[0].Tokens, batch[1].Tokens}, 1, 1)
		s.DropEmbedding()
		inputs := make([][][]float32, len(m.Blocks))
		for layer := range m.Blocks {
			for b := range w.Batches() {
				inputs[layer] = append(inputs[layer], slices.Clone(w.Hidden(b)))
			}
			must(s.LoadLayer(bg, layer))
			w.Advance()
			s.DropLayer(layer)
		}
		must(s.LoadHead(bg))
		rng := rand.New(rand.NewPCG(1, 2))
		head := s.Model.NewRunner(pool)
		grads := make([][]float32, w.Batches())
		at := 0
		for b := range w.Batches() {
			h := slices.Clone(w.Final(b))
			if !slices.Equal(h, hidden[at:at+len(h)]) {
				t.Fatal("the final hidden states differ")
			}
			at += len(h)
			grads[b] = make([]float32, len(h))
			head.SampledGradient(grads[b], h, w.Tokens(b), rng)
			w.FinalBack(b, grads[b])
		}
		s.DropHead()
		visits := 0
		for layer := len(m.Blocks) - 1; layer >= 0; layer-- {
			must(s.LoadLayer(bg, layer))
			first := 0
			for b := range w.Batches() {
				w.LayerBack(layer, b, inputs[layer][b], grads[b], func(p Projected) {
					visits++
					all := want[name(p)]
					for _, v := range []struct {
						what      string
						got, want []float32
					}{{"input", p.X, all.x}, {"output", p.Y, all.y}, {"gradient", p.G, all.g}} {
						width := len(v.got) / p.N
						if !slices.Equal(v.got, v.want[first*width:(first+p.N)*width]) {
							t.Errorf("%s, batch %d: the %s differs", name(p), b, v.what)
						}
					}
				})
				first += w.Tokens(b)
			}
			s.DropLayer(layer)
		}
		if visits != 2*len(want) || len(want) != len(projectionKinds(m))*len(m.Blocks) {
			t.Errorf("%d visits, %d projections", visits, len(want))
		}
		if !slices.Equal(slices.Concat(grads...), grad) {
			t.Error("the gradients of the embeddings differ")
		}
	})
}

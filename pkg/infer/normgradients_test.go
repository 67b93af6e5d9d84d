package infer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/model"
)

// TestNormGradients moves the weights of every norm of a fixture along a random direction: the slope of
// the loss is Σ g·x/rms(x)·Δw.
func TestNormGradients(t *testing.T) {
	pool := newPool(t, 2)
	families := map[string]bool{}
	eachFixture(t, func(t *testing.T, dir string) {
		m := openFixture(t, dir, pool)
		if families[m.Config.ModelType] {
			return // one of each family
		}
		families[m.Config.ModelType] = true
		ids, _ := expected(t, dir)
		ids = ids[:min(len(ids), 24)]
		r := m.NewRunner(pool)
		rng := rand.New(rand.NewPCG(1, 2))
		directions := map[string][]float32{}
		var specs []model.TensorSpec
		name := func(layer int, kind string) string { return fmt.Sprintf("%d.%s", layer, kind) }
		for _, s := range m.Config.Tensors() {
			if s.Role != model.Norm {
				continue
			}
			d := make([]float32, s.Shape[0])
			for i := range d {
				d[i] = float32(rng.NormFloat64()) * 0.1
			}
			directions[name(s.Layer, s.Kind)], specs = d, append(specs, s)
		}
		slopes := map[string]float64{}
		tape := NewTape(TapeOptions{})
		batch := tapeBatch(m, ids)
		hidden := slices.Clone(r.ForwardTape(batch, tape))
		grad := make([]float32, len(hidden))
		lossOf(r, batch, hidden, grad)
		r.BackwardAll(batch, tape, grad, Visitors{Norms: func(v Normed) {
			d := directions[name(v.Layer, v.Kind)]
			if d == nil {
				t.Fatalf("a norm %q in layer %d", v.Kind, v.Layer)
			}
			y := make([]float32, len(d))
			for i := range v.N {
				kernel.RMSNorm(y, v.X[i*len(d):(i+1)*len(d)], d, float32(m.Config.RMSNormEps))
				slopes[name(v.Layer, v.Kind)] += kernel.Dot(y, v.G[i*len(d):(i+1)*len(d)])
			}
		}})
		if len(slopes) != len(specs) {
			t.Fatalf("%d norms were visited, the model has %d", len(slopes), len(specs))
		}
		for _, s := range specs {
			var b *Block
			if s.Layer >= 0 {
				b = &m.Blocks[s.Layer]
			}
			gains := m.norm(b, s.Kind)
			before := *gains
			at := func(h float32) float64 {
				*gains = slices.Clone(before)
				kernel.AddScaled(*gains, directions[name(s.Layer, s.Kind)], h)
				batch := tapeBatch(m, ids)
				return lossOf(r, batch, r.Forward(batch), nil)
			}
			const h = 1.0 / 16
			want := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
			*gains = before
			if got := slopes[name(s.Layer, s.Kind)]; math.Abs(got-want) > 2e-3*math.Abs(want)+2e-4 {
				t.Errorf("%s: slope %v, by differences %v", s.Name, got, want)
			}
		}
	})
}

package infer

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"

	"afmq/pkg/compute"
	"afmq/pkg/estimate"
)

// Rates are times that [Stream.Measure] measured, in seconds.
type Rates struct {
	Load    float64 // for each stored byte of a layer that is loaded
	Forward float64 // for each token in a layer
	Back    float64 // for each token in a layer by [Walk.LayerBack]
	Logits  float64 // for each token of logits
	Sample  float64 // for each token of [Runner.SampledGradient]

	Hash    float64 // for each byte that is hashed, on all threads
	Product float64 // for each weight and token of a product in float32
	Gram    float64 // for each token and element of a second moment
}

// measuredVocab is the number of rows of the head that stands for one of any size.
const measuredVocab = 4096

// Measure measures the speed of this machine on the model's first layer and on sequences of length
// tokens, with the products of the model on models and others in float32 on pool. It takes about a
// second, and longer for large models.
func (s *Stream) Measure(ctx context.Context, pool, models *compute.Pool, length int) (*Rates, error) {
	r := &Rates{}
	pool = pool.With(compute.F32)
	if length < 2 {
		length = 64 // nothing runs
	}
	// As many tokens as a batch of real work has, but not more than take about a second.
	tokens := max(length, min(BatchTokens, int(1<<33/max(s.Model.LayerWork(), 1))))
	for _, measure := range []func() error{
		func() error { return s.measureLayer(ctx, r, models, length, tokens) },
		func() error { return s.Model.measureHead(ctx, r, models) },
		func() error { return s.Model.measureKernels(ctx, r, pool, tokens) },
	} {
		if err := measure(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// measureLayer measures the speed of a layer.
func (s *Stream) measureLayer(ctx context.Context, r *Rates, pool *compute.Pool, length, tokens int) error {
	load, err := estimate.Time(ctx, func() error { return s.LoadLayer(ctx, 0) })
	if err != nil {
		return err
	}
	defer s.DropLayer(0)
	r.Load = load / float64(storedBytes(s.parts[0]))
	// One layer, whose input is the same row of an embedding for every token.
	cfg := *s.Model.Config
	cfg.Layers = 1
	d := cfg.HiddenSize
	one := &Model{Config: &cfg, Blocks: s.Model.Blocks[:1], Embedding: compute.PackF32(1, d, estimate.RandomFloats(d)), FinalNorm: estimate.RandomFloats(d)}
	sequences := make([][]int32, max(1, tokens/length))
	for i := range sequences {
		sequences[i] = make([]int32, length)
	}
	tokens = len(sequences) * length
	w, err := one.NewWalk(sequences, WalkOptions{Pool: pool, Batches: []int{len(sequences)}})
	if err != nil {
		return err
	}
	in := append([]float32(nil), w.Hidden(0)...)
	forward, err := estimate.Time(ctx, func() error {
		w.layer = 0
		copy(w.parts[0].hidden, in)
		w.Advance()
		return nil
	})
	if err != nil {
		return err
	}
	start := estimate.RandomFloats(tokens * d)
	grad := make([]float32, len(start))
	back, err := estimate.Time(ctx, func() error {
		copy(grad, start)
		w.LayerBack(0, 0, in, grad, func(Projected) {})
		return nil
	})
	r.Forward, r.Back = forward/float64(tokens), back/float64(tokens)
	return err
}

// measureKernels measures the speed of what needs no model.
func (m *Model) measureKernels(ctx context.Context, r *Rates, pool *compute.Pool, tokens int) error {
	data := make([]byte, 4<<20)
	t, err := estimate.Time(ctx, func() error {
		pool.Run(pool.Threads(), func(int, int) { sha256.Sum256(data) })
		return nil
	})
	if err != nil {
		return err
	}
	r.Hash = t / float64(len(data)) / float64(pool.Threads())
	d := m.Config.HiddenSize
	x, h := estimate.RandomFloats(tokens*d), make([]float32, d*d)
	if t, err = estimate.Time(ctx, func() error {
		pool.AddGram(h, x, tokens, d)
		return nil
	}); err != nil {
		return err
	}
	r.Gram = t / float64(tokens) / float64(d) / float64(d)
	rows := min(m.Config.IntermediateSize, 2048)
	w, y := compute.PackF32(rows, d, estimate.RandomFloats(rows*d)), make([]float32, tokens*rows)
	t, err = estimate.Time(ctx, func() error {
		pool.MulT(y, x, tokens, w)
		return nil
	})
	r.Product = t / float64(tokens) / float64(rows) / float64(d)
	return err
}

// measureHead measures the speed of the head on some of its rows.
func (m *Model) measureHead(ctx context.Context, r *Rates, pool *compute.Pool) error {
	cfg := *m.Config
	rows, d := min(cfg.VocabSize, measuredVocab), cfg.HiddenSize
	scale := float64(cfg.VocabSize) / float64(rows)
	half := make([]uint16, rows*d)
	for i := range half {
		half[i] = uint16(0x2c00 + i%1024) // about 0.06 to 0.12
	}
	cfg.VocabSize = rows
	head := &Model{Config: &cfg, Head: compute.PackF16(rows, d, half)}
	run := head.NewRunner(pool)
	const tokens = 128
	hidden, logits, grad := estimate.RandomFloats(tokens*d), make([]float32, tokens*rows), make([]float32, tokens*d)
	t, err := estimate.Time(ctx, func() error {
		run.Logits(logits, hidden, tokens)
		return nil
	})
	if err != nil {
		return err
	}
	r.Logits = t / tokens * scale
	rng := rand.New(rand.NewPCG(1, 3))
	t, err = estimate.Time(ctx, func() error {
		run.SampledGradient(grad, hidden, tokens, rng)
		return nil
	})
	r.Sample = t / tokens * scale
	return err
}

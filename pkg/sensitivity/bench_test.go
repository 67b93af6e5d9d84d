package sensitivity

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"afmq/pkg/infer"
)

// BenchmarkFisher scores all modules of a model at two widths, palettes included, and
// gives the time as a multiple of a forward pass over the same tokens, logits included,
// measured before and after. With AFMQ_SHARED the model is models/afm-mini there, else
// the embedded one.
//
//	go test -run '^$' -bench Fisher -benchtime 3x ./pkg/sensitivity
func BenchmarkFisher(b *testing.B) {
	pool := newPool(b, 0)
	o := options(b, Fisher, 2, 4)
	o.Calibration.SeqLen, o.Calibration.Tokens = 256, DefaultTokens
	if dir := os.Getenv("AFMQ_SHARED"); dir != "" {
		o.Model = filepath.Join(dir, "models", "afm-mini")
		o.Calibration.Files = []string{filepath.Join(dir, "corpora", "calib.jsonl")}
	} else {
		o.Calibration.Tokens = 512
	}
	if err := o.Check(); err != nil {
		b.Fatal(err)
	}
	in := &scoreJob{opts: o, pool: pool}
	if err := in.open(); err != nil {
		b.Fatal(err)
	}
	defer in.close()
	m, err := infer.OpenWeights(bg, o.Model, infer.OpenOptions{Pool: pool})
	if err != nil {
		b.Fatal(err)
	}
	forward := time.Hour
	measure := func() {
		r := m.NewRunner(pool)
		start := time.Now()
		sequences := in.text.Sequences
		for first, end := range infer.Batches(len(sequences), infer.BatchTokens, func(i int) int { return len(sequences[i]) }) {
			var batch []infer.Segment
			n := 0
			for _, s := range sequences[first:end] {
				batch = append(batch, infer.Segment{Cache: m.NewCache(len(s)), Tokens: s})
				n += len(s)
			}
			h := r.Forward(batch)
			logits := make([]float32, n*m.Config.VocabSize)
			r.Logits(logits, h, n)
		}
		forward = min(forward, time.Since(start))
	}
	for range 3 {
		measure()
	}
	best := time.Hour
	for b.Loop() {
		start := time.Now()
		if _, err := in.run(bg, &unitLog{}); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	measure()
	b.ReportMetric(float64(best)/float64(forward), "forwards")
	b.ReportMetric(float64(in.text.Tokens())/best.Seconds(), "tokens/s")
}

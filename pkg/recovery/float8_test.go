package recovery

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

// TestWorkerFloat8 holds the worker's rounding to F8_E4M3 to that of pkg/adapter, whatever the magnitudes
// of A and B.
func TestWorkerFloat8(t *testing.T) {
	needPython(t)
	for seed, size := range map[uint64]float64{1: 1, 2: 1e-5, 3: 10} {
		rng := rand.New(rand.NewPCG(seed, 8))
		in, student, modules := &jobInputs{}, TrainStudent{}, map[string]adapter.Weights{}
		const rank = 5
		for i := range 3 {
			name, values := fmt.Sprintf("m%d", i), map[string][]float32{}
			for side, shape := range map[string][]int{"A": {rank, 24}, "B": {16, rank}} {
				v := make([]float32, shape[0]*shape[1])
				for k := range v {
					v[k] = float32(size * rng.NormFloat64() * math.Exp(2*rng.NormFloat64()))
				}
				if i == 2 && side == "B" {
					clear(v)
				}
				values[side] = v
				in.rows(name+"."+side, shape[0], shape[1], func(dst []float32, i int) { copy(dst, v[i*len(dst):]) })
			}
			modules[name] = adapter.Weights{A: values["A"], B: values["B"]}
			student.Parts = append(student.Parts, TrainPart{Factor: name})
		}
		path, results := writeAsked(t, &TrainJob{Students: []TrainStudent{student}}, in)
		askWorker(t, "", "float8", path)
		f := openFile(t, results)
		for name, w := range adapter.Float8(modules, func(string) int { return rank }) {
			if a, b := floats(t, f, name+".A"), floats(t, f, name+".B"); !slices.Equal(a, w.A) || !slices.Equal(b, w.B) {
				t.Errorf("size %v: %s differs", size, name)
			}
		}
	}
}

// TestFloat8Stored checks that the figures of an adapter in F8_E4M3 are those of the file.
func TestFloat8Stored(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Ranks, o.Float8, o.Tokens, o.InitTokens = []int{3}, true, 4*64, 512
	r := mustRun(t, pool, o)
	m, err := infer.Open(bg, b.artifact, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(o.Out, r.Adapters[0].Path)
	if x, ok := openFile(t, filepath.Join(dir, adapter.WeightsFile)).Tensor("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"); !ok || x.DType != safetensors.F8E4M3 {
		t.Fatalf("the adapter is not stored in F8_E4M3: %v", x)
	}
	a, err := adapter.Open(dir, b.artifact, m.Config, false)
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrainer(pool, &o, dataOf(t, pool, &o, m), m.WithAdapter(a), nil, nil)
	scores, err := tr.measure(bg, tr.data.test, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := math.Exp(scores[0].Nats), r.Adapters[0].Test.PerplexityAfter; got != want {
		t.Errorf("the stored adapter has a perplexity of %v, the result says %v", got, want)
	}
}

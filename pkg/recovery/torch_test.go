package recovery

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

// torchCase is one adapter that PEFT wrote, with what PyTorch makes of it in float64;
// scripts/make_recovery_fixtures.py wrote them.
type torchCase struct {
	expected  *safetensors.File
	model     *infer.Model
	adapter   *adapter.Adapter
	sequences [][]int32 // with the last token, which is only a target
}

func eachTorchCase(t *testing.T, f func(t *testing.T, pool *compute.Pool, c torchCase)) {
	cases, err := filepath.Glob("testdata/*/expected.safetensors")
	if err != nil || len(cases) < 5 {
		t.Fatalf("%d fixtures, %v", len(cases), err)
	}
	for _, path := range cases {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			pool := newPool(t, 2)
			c := torchCase{expected: openFile(t, path)}
			if c.model, err = infer.OpenWeights(bg, filepath.Join("../infer/testdata/models", c.expected.Metadata()["checkpoint"]), infer.OpenOptions{Pool: pool}); err != nil {
				t.Fatal(err)
			}
			if c.adapter, err = adapter.Read(dir, c.model.Config); err != nil {
				t.Fatal(err)
			}
			x, _ := c.expected.Tensor("ids")
			ids, err := safetensors.View[int32](x)
			if err != nil {
				t.Fatal(err)
			}
			for i := range x.Shape[0] {
				c.sequences = append(c.sequences, ids[i*x.Shape[1]:(i+1)*x.Shape[1]])
			}
			f(t, pool, c)
		})
	}
}

func (c *torchCase) batch(m *infer.Model) (batch []infer.Segment, targets []int32) {
	for _, s := range c.sequences {
		batch = append(batch, infer.Segment{Cache: m.NewCache(len(s)), Tokens: s[:len(s)-1]})
		targets = append(targets, s[1:]...)
	}
	return batch, targets
}

// TestLogitsAgainstPEFT holds the model with an adapter to PEFT's.
func TestLogitsAgainstPEFT(t *testing.T) {
	eachTorchCase(t, func(t *testing.T, pool *compute.Pool, c torchCase) {
		m := c.model.WithAdapter(c.adapter)
		r := m.NewRunner(pool)
		batch, targets := c.batch(m)
		hidden := r.Forward(batch)
		got := make([]float32, len(targets)*m.Config.VocabSize)
		r.Logits(got, hidden, len(targets))
		for i, want := range floats(t, c.expected, "logits") {
			if d := math.Abs(float64(got[i] - want)); !(d <= 2e-5*max(1, math.Abs(float64(want)))) {
				t.Fatalf("logit %d is %v, want %v", i, got[i], want)
			}
		}
	})
}

// TestGradientsAgainstTorch holds losses and the gradients of all adapters to PyTorch's.
func TestGradientsAgainstTorch(t *testing.T) {
	objectives := map[string]objective{
		"kl": {1, 0, 1}, "kl_temperature": {1, 0, 2}, "ce": {0, 1, 1}, "mix": {0.3, 0.7, 2},
	}
	eachTorchCase(t, func(t *testing.T, pool *compute.Pool, c torchCase) {
		teacher := c.model.NewRunner(pool)
		batch, targets := c.batch(c.model)
		ofTeacher := append([]float32(nil), teacher.Forward(batch)...)
		student := c.model.WithAdapter(&adapter.Adapter{})
		s := newStudent(pool, c.model.Config, &c.adapter.Config)
		for i := range s.parts {
			s.copyFrom(i, c.adapter)
		}
		s.pack(pool, s.weights, safetensors.F32)
		s.attach(student)
		runner := student.NewRunner(pool)
		h := newHead(pool, runner, teacher)
		n := float64(len(targets))
		for kind, o := range objectives {
			want := floats(t, c.expected, "loss."+kind)[0]
			for _, recompute := range []bool{false, true} {
				clear(s.grads)
				batch, _ := c.batch(student)
				tape := infer.NewTape(infer.TapeOptions{Recompute: recompute})
				hidden := runner.ForwardTape(batch, tape)
				grad := make([]float32, len(hidden))
				loss := h.gradient(o, grad, hidden, ofTeacher, targets, nil) / n
				if d := math.Abs(loss - float64(want)); !(d <= 2e-6*math.Abs(float64(want))+2e-8) {
					t.Errorf("%s: the loss is %v, want %v", kind, loss, want)
				}
				runner.Backward(batch, tape, grad, s.visitor)
				if kind == "kl" || kind == "mix" {
					c.compareGradients(t, fmt.Sprintf("%s, recompute %v", kind, recompute), kind, s, n)
				}
			}
		}
	})
}

func (c *torchCase) compareGradients(t *testing.T, what, kind string, s *student, n float64) {
	grads := s.values(nil, s.grads)
	for _, p := range s.parts {
		nameA, nameB := adapter.TensorNames(p.name)
		for name, got := range map[string][]float32{nameA: grads[p.name].A, nameB: grads[p.name].B} {
			want := floats(t, c.expected, kind+"."+name)
			if len(want) != len(got) {
				t.Fatalf("%s: %d gradients, want %d", name, len(got), len(want))
			}
			size := 0.0
			for _, w := range want {
				size = max(size, math.Abs(float64(w)))
			}
			for i, w := range want {
				if d := math.Abs(float64(got[i])/n - float64(w)); !(d <= 2e-5*size) {
					t.Fatalf("%s: gradient %d of %s is %v, want %v (largest %v)", what, i, name, float64(got[i])/n, w, size)
				}
			}
		}
	}
}

// TestAdamWAgainstTorch holds the optimizer, clipping included, to PyTorch's.
func TestAdamWAgainstTorch(t *testing.T) {
	f := openFile(t, "testdata/adamw.safetensors")
	pool := newPool(t, 3)
	start := floats(t, f, "start")
	s := &trained{epsilon: adapterEpsilon, weights: start, m: make([]float32, len(start)), v: make([]float32, len(start))}
	const clip, decay = 20, 0.1
	if f.Metadata()["clip"] != "20.0" || f.Metadata()["weight_decay"] != "0.1" {
		t.Fatal("the fixture is of other constants")
	}
	clipped := 0
	for i, rate := range floats(t, f, "rates") {
		s.grads = floats(t, f, fmt.Sprintf("gradient.%d", i))
		norm, want := gradientNorm(pool, s.grads), float64(floats(t, f, fmt.Sprintf("norm.%d", i))[0])
		if math.Abs(norm-want) > 1e-5*want {
			t.Errorf("step %d: norm %v, want %v", i, norm, want)
		}
		scale := clipFactor(norm, clip)
		if scale != 1 {
			clipped++
		}
		s.adamW(pool, int64(i+1), float64(rate), decay, scale)
		for k, w := range floats(t, f, fmt.Sprintf("weights.%d", i)) {
			if d := math.Abs(float64(s.weights[k] - w)); d > 1e-6+2e-6*math.Abs(float64(w)) {
				t.Fatalf("step %d: weight %d is %v, want %v", i, k, s.weights[k], w)
			}
		}
	}
	if clipped == 0 || clipped == 4 {
		t.Errorf("%d of 4 steps were clipped; the test wants both", clipped)
	}
}

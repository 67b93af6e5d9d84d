package sensitivity

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// madeUp returns scores of the model of a config, stored as F16: costs gives those of a
// module.
func madeUp(t *testing.T, config string, s *Scores, costs func() []float64) (*Scores, *Shape) {
	t.Helper()
	cfg, err := model.ParseConfig("config.json", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	s.Schema, s.Config = ScoresSchema, config
	for _, spec := range cfg.Tensors() {
		s.Tensors = append(s.Tensors, TensorInfo{spec.Name, "F16", spec.Shape})
		if spec.Role == model.Projection {
			s.Modules = append(s.Modules, ModuleScore{spec.Module(), spec.Shape, costs()})
		}
	}
	shape, err := s.Shape()
	if err != nil {
		t.Fatal(err)
	}
	return s, shape
}

// randomScores is a small model of random shape with random scores.
func randomScores(t *testing.T, r *rand.Rand) (*Scores, *Shape) {
	kv := 1 + r.IntN(2)
	heads, dim := kv*(1+r.IntN(2)), 2*(1+r.IntN(6))
	config := fmt.Sprintf(`{
		"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": %d, "intermediate_size": %d,
		"num_hidden_layers": 1, "num_attention_heads": %d, "num_key_value_heads": %d, "head_dim": %d, "vocab_size": %d,
		"rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 64, "hidden_act": "silu",
		"tie_word_embeddings": %v, "torch_dtype": "float16"}`,
		4*(1+r.IntN(12)), 4*(1+r.IntN(20)), heads, kv, dim, 8+r.IntN(60), r.IntN(2) == 0)
	return madeUp(t, config, &Scores{
		Method: Weight, Bits: [][]int{{2, 4}, {1, 8}, {3, 4}}[r.IntN(3)], GroupRows: 1 + r.IntN(16), RowScale: r.IntN(2) == 0,
	}, func() []float64 {
		least := math.Exp(2 * r.NormFloat64())
		return []float64{least * (1 + 9*r.Float64()), least}
	})
}

// allPlans returns the size of the file and the cost of every plan of a model that was scored
// at two widths. Sizes are those that the safetensors package computes.
func allPlans(t *testing.T, s *Scores, shape *Shape) (sizes []int64, costs []float64) {
	t.Helper()
	specs := projectionSpecs(shape.Config)
	for mask := range 1 << len(specs) {
		widths, err := Widths(shape.Config, s.Bits[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		cost := 0.0
		for i, spec := range specs {
			o := mask >> i & 1
			widths[spec.Module()] = Width{artifact.Palette, s.Bits[o]}
			cost += s.Modules[i].Costs[o]
		}
		_, n, err := safetensors.FileSize(shape.infos(s.storage(), widths), artifact.Metadata())
		if err != nil {
			t.Fatal(err)
		}
		sizes, costs = append(sizes, n), append(costs, cost)
	}
	return sizes, costs
}

// checkFileBounds plans small random models under bounds on the bytes of the file and
// compares the plans, and what they claim of their cost, with all plans. The bounds are around
// the sizes of plans, where the length of the header decides what fits. It returns the number
// of plans, and of those without a proof.
func checkFileBounds(t *testing.T, models int) (plans, unproven int) {
	t.Helper()
	r := rand.New(rand.NewPCG(2, 7))
	for range models {
		s, shape := randomScores(t, r)
		sizes, costs := allPlans(t, s, shape)
		best := func(limit int64) (cost float64, size int64) {
			cost = math.Inf(1)
			for k, n := range sizes {
				if n <= limit && costs[k] < cost {
					cost, size = costs[k], n
				}
			}
			return cost, size
		}
		for k := range 20 {
			limit := sizes[r.IntN(len(sizes))] + int64(r.IntN(24)) - 8
			if _, size := best(limit); k%2 == 0 && size > 0 {
				limit = size // no byte to spare
			}
			want, _ := best(limit)
			p, err := MakePlan(s, PlanOptions{Target: Target{MaxBytes: limit}})
			if math.IsInf(want, 1) {
				wantFault(t, err, fault.Infeasible)
				continue
			}
			if err != nil {
				t.Fatalf("at most %d bytes: %v", limit, err)
			}
			plans++
			if !p.Optimal {
				unproven++
			}
			checkClaims(t, p, shape, limit, want)
		}
	}
	return plans, unproven
}

// checkClaims checks a plan against the bound on its file and the least cost within it.
func checkClaims(t *testing.T, p *Plan, shape *Shape, limit int64, want float64) {
	t.Helper()
	widths, err := p.Widths("plan.json", shape)
	if err != nil {
		t.Fatal(err)
	}
	if _, n, err := safetensors.FileSize(shape.infos(p.Storage(), widths), artifact.Metadata()); err != nil || n > limit || n != p.Bytes {
		t.Errorf("at most %d bytes: the file has %d, the plan says %d (%v)", limit, n, p.Bytes, err)
	}
	if p.Optimal && p.Cost > want*(1+1e-12) {
		t.Errorf("at most %d bytes: cost %v is called optimal; the optimum is %v", limit, p.Cost, want)
	}
	if p.LowerBound > want*(1+1e-12) {
		t.Errorf("at most %d bytes: lower bound %v, the optimum is %v", limit, p.LowerBound, want)
	}
	for _, b := range p.Baselines {
		if b.Cost < want*(1-1e-12) {
			t.Errorf("at most %d bytes: %s costs %v, less than the optimum %v: it exceeds the target", limit, b.Name, b.Cost, want)
		}
	}
}

// TestFileBoundAgreesWithBruteForce: with a bound on the bytes of the file, every plan keeps
// it and is the optimum.
func TestFileBoundAgreesWithBruteForce(t *testing.T) {
	plans, unproven := checkFileBounds(t, 40)
	if plans < 600 || unproven > 0 {
		t.Errorf("%d plans, %d without proof", plans, unproven)
	}
}

// TestUnprovenPlans: what plans claim is true also if the search is cut short.
func TestUnprovenPlans(t *testing.T) {
	defer func(n int) { maxStates = n }(maxStates)
	maxStates = 8
	if plans, unproven := checkFileBounds(t, 10); unproven < plans/4 {
		t.Errorf("%d of %d plans are without proof; the test expects many", unproven, plans)
	}
}

// TestHeaderBytes compares the computed length of the header with the header of a file.
func TestHeaderBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		s, shape := randomScores(t, r)
		st := Storage{s.GroupRows, s.RowScale}
		widths, err := Widths(shape.Config, 1+r.IntN(8), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := shape.headerBytes(st, widths)
		if err != nil {
			t.Fatal(err)
		}
		infos := shape.infos(st, widths)
		path := t.TempDir() + "/x.safetensors"
		padded, _, err := safetensors.FileSize(infos, artifact.Metadata())
		if err != nil {
			t.Fatal(err)
		}
		front := writeFront(t, path, infos)
		if want := int64(len(strings.TrimRight(front, " "))); int64(len(front)) != padded || got != want {
			t.Errorf("%d bytes, want %d of %d", got, want, padded)
		}
	}
}

// writeFront writes a file of zeros and returns what precedes the data of its first tensor.
func writeFront(t *testing.T, path string, infos []safetensors.Info) string {
	t.Helper()
	w, err := safetensors.Create(path, infos, artifact.Metadata())
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		n, err := info.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(info.Name, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data[:8+binary.LittleEndian.Uint64(data)])
}

// largeScores is a model of the size of real ones, with scores that differ by orders of
// magnitude.
func largeScores(t *testing.T, seed uint64) (*Scores, *Shape) {
	r := rand.New(rand.NewPCG(seed, 1))
	bits := []int{2, 3, 4}
	return madeUp(t, `{
		"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 1024, "intermediate_size": 3072,
		"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32000,
		"rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 4096, "hidden_act": "silu",
		"tie_word_embeddings": true, "torch_dtype": "float16"}`,
		&Scores{Method: Fisher, Bits: bits, GroupRows: 16, RowScale: true}, func() (costs []float64) {
			scale := math.Exp(1.5 * r.NormFloat64())
			for _, b := range bits {
				costs = append(costs, scale*math.Pow(3.7, -float64(b))*(0.9+0.2*r.Float64()))
			}
			return costs
		})
}

// TestFileBoundOfLargeModel: 196 modules are solved to proven optimality at a bound on the
// bytes too, and a looser bound costs no more.
func TestFileBoundOfLargeModel(t *testing.T) {
	for seed := range uint64(2) {
		s, shape := largeScores(t, seed)
		least, most, err := reach(s, shape, PlanOptions{Bits: s.Bits})
		if err != nil {
			t.Fatal(err)
		}
		last := math.Inf(1)
		for _, k := range []int64{2, 5} {
			r := PlanOptions{Ties: [][]Tie{nil, {TieQKV, TieGateUp}}[seed%2]}
			plan := func(limit int64) *Plan {
				t.Helper()
				r.Target.MaxBytes = limit
				p, err := MakePlan(s, r)
				if err != nil {
					t.Fatal(err)
				}
				if !p.Optimal || p.Bytes > limit || p.Cost > last {
					t.Errorf("at most %d bytes: %d bytes, cost %v, bound %v, proven %v; a tighter bound cost %v", limit, p.Bytes, p.Cost, p.LowerBound, p.Optimal, last)
				}
				return p
			}
			p := plan(least.FileBytes + (most.FileBytes-least.FileBytes)*k/8 + 4096)
			// A byte less than that: with the shortest header the same plan would fit.
			if q := plan(p.Bytes - 1); q.Cost < p.Cost {
				t.Errorf("%d bytes cost %v, %d bytes only %v", p.Bytes, p.Cost, q.Bytes, q.Cost)
			}
			last = p.Cost
		}
	}
}

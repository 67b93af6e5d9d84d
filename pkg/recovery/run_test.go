package recovery

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
)

// runOn runs on a pool.
func runOn(ctx context.Context, pool *compute.Pool, o Options) (*Result, error) {
	o.Pool = pool
	return Run(ctx, o)
}

func mustRun(t testing.TB, pool *compute.Pool, o Options) *Result {
	t.Helper()
	r, err := runOn(bg, pool, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRunRecovers trains the demo model's 2-bit artifact: the init helps, training helps
// more, and the files are what the result says.
func TestRunRecovers(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Ranks, o.Tokens, o.InitTokens, o.Rate = []int{2, 8}, 40*64, 1024, 1e-3
	r := mustRun(t, pool, o)
	for i, a := range r.Adapters {
		if !(*a.KLAfter < *a.KLInit && *a.KLInit < *a.KLBefore) || !(a.PerplexityAfter < a.PerplexityBefore) {
			t.Errorf("rank %d: KL %v, after the init %v, after training %v; perplexity %v to %v", a.Rank, *a.KLBefore, *a.KLInit, *a.KLAfter, a.PerplexityBefore, a.PerplexityAfter)
		}
		if i > 0 && !(*a.KLAfter < *r.Adapters[i-1].KLAfter) {
			t.Errorf("rank %d leaves %v, rank %d %v", a.Rank, *a.KLAfter, r.Adapters[i-1].Rank, *r.Adapters[i-1].KLAfter)
		}
		m, err := infer.Open(bg, b.artifact, infer.OpenOptions{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		adapter, err := adapter.Open(filepath.Join(o.Out, a.Path), b.artifact, m.Config, false)
		if err != nil {
			t.Fatal(err)
		}
		if adapter.Config.Rank != a.Rank || adapter.Bytes != a.Bytes || len(adapter.Modules) != 28 {
			t.Errorf("rank %d is stored with rank %d, %d bytes, %d modules", a.Rank, adapter.Config.Rank, adapter.Bytes, len(adapter.Modules))
		}
		// The stored adapter does what the result says.
		teacher, err := infer.Open(bg, b.model, infer.OpenOptions{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		tr := newTrainer(pool, &o, dataOf(t, pool, &o, m), m.WithAdapter(adapter), teacher, nil)
		scores, err := tr.validate(bg, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if scores[0].KL != *a.KLAfter || math.Exp(scores[0].Nats) != a.PerplexityAfter {
			t.Errorf("rank %d: the stored adapter has KL %v and perplexity %v, the result says %v and %v", a.Rank, scores[0].KL, math.Exp(scores[0].Nats), *a.KLAfter, a.PerplexityAfter)
		}
		if scores, err = tr.measure(bg, tr.data.test, func() {}); err != nil {
			t.Fatal(err)
		}
		if x := a.Test; scores[0].KL != *x.KLAfter || math.Exp(scores[0].Nats) != x.PerplexityAfter || math.Exp(scores[1].Nats) != *x.PerplexityTeacher || scores[0].Tokens != r.TestTokens {
			t.Errorf("rank %d: on the test text the stored adapter has %+v and the teacher %+v, the result says %+v", a.Rank, scores[0], scores[1], x)
		}
		if x := a.Test; !(*x.KLAfter < *x.KLBefore) || *x.KLAfter == *a.KLAfter || math.Abs(*x.Recovered-(1 - *x.KLAfter / *x.KLBefore)) > 1e-12 {
			t.Errorf("rank %d: %+v on the test text", a.Rank, x)
		}
	}
	for _, name := range []string{RecordFile, MetricsFile, LossPlot, CurvePlot} {
		if info, err := os.Stat(filepath.Join(o.Out, name)); err != nil || info.Size() < 100 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSameBytes holds runs of one job together: on other threads, with every layer run
// forward again in the backward pass, and a rank alone or beside others.
func TestSameBytes(t *testing.T) {
	b := newBench(t)
	o := b.options(t)
	o.Ranks = []int{2, 5}
	mustRun(t, newPool(t, 1), o)
	want := contents(t, o.Out)
	threads := o
	threads.Out = filepath.Join(t.TempDir(), "out")
	threads.Recompute = true
	mustRun(t, newPool(t, 3), threads)
	sameContents(t, contents(t, threads.Out), want)
	alone := o
	alone.Out, alone.Ranks = filepath.Join(t.TempDir(), "out"), []int{5}
	mustRun(t, newPool(t, 2), alone)
	name := filepath.Join("rank-5", adapter.WeightsFile)
	if contents(t, alone.Out)[name] != want[name] {
		t.Error("rank 5 beside rank 2 differs from rank 5 alone")
	}
}

// TestNonFiniteLoss checks that a run that leaves the numbers stops as unexpected, and
// that the last good state stays.
func TestNonFiniteLoss(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Rate, o.Clip = 1e30, -1
	_, err := runOn(bg, pool, o)
	wantFault(t, err, fault.Unexpected, "the loss", "is kept")
	state := filepath.Join(filepath.Dir(o.Out), ".out.afmq", "state", stateFile)
	f := openFile(t, state)
	for _, v := range floats(t, f, "rank-2.weights") {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			t.Fatal("the kept state is not finite")
		}
	}
	if _, err := os.Stat(o.Out); err == nil {
		t.Error("there is an output")
	}
	// And the best adapter so far can be used.
	cfg, err := model.LoadConfig(b.artifact)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adapter.Open(filepath.Join(filepath.Dir(state), "rank-2"), b.artifact, cfg, false); err != nil {
		t.Error(err)
	}
}

// TestMetrics checks that the metrics are one line a step and rank, and one for each look
// at the held-out text.
func TestMetrics(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Ranks = []int{2, 3}
	r := mustRun(t, pool, o)
	data, err := os.ReadFile(filepath.Join(o.Out, MetricsFile))
	if err != nil {
		t.Fatal(err)
	}
	steps, looks := 0, 0
	for line := range strings.Lines(string(data)) {
		var m Metric
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m.Tokens != m.Step*64 {
			t.Errorf("step %d has %d tokens", m.Step, m.Tokens)
		}
		if m.Loss != nil {
			steps++
			if !(*m.Loss > 0) || !(m.Rate > 0) || !(m.GradientNorm > 0) {
				t.Errorf("%s", line)
			}
		} else if m.KL != nil && m.Perplexity != nil {
			looks++
		}
	}
	if steps != 2*int(r.Steps) || looks < 4 {
		t.Errorf("%d lines of steps, %d of looks", steps, looks)
	}
}

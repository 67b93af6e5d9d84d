package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"afmq/pkg/adapter"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

func mustRun(t testing.TB, pool *compute.Pool, o Options) *Result {
	t.Helper()
	r, err := Run(bg, pool, o)
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
	}
	for _, name := range []string{RecordFile, MetricsFile, LossPlot, CurvePlot} {
		if info, err := os.Stat(filepath.Join(o.Out, name)); err != nil || info.Size() < 100 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func dataOf(t testing.TB, pool *compute.Pool, o *Options, m *infer.Model) *Data {
	t.Helper()
	c := *o
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	d, err := readData(bg, pool, &c, m.Tokenizer, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	*o = c
	return d
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

// TestResume cancels a run after every step and more than once, before the look at the
// held-out text that follows each and after it, and holds the result to that of a run that
// was left alone.
func TestResume(t *testing.T) {
	for _, validation := range []int{16, 200} { // tokens: a look after every step, or none but the last
		t.Run(strconv.Itoa(validation), func(t *testing.T) { resume(t, validation) })
	}
}

func resume(t *testing.T, validation int) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Validation = validation
	mustRun(t, pool, o)
	want := contents(t, o.Out)
	for n := 1; n < 6; n++ {
		c := o
		c.Out = filepath.Join(t.TempDir(), "out")
		// A step whose look was cut off is made again, so every run has to make one more.
		for made := 0; made < 5; made += n {
			ctx, cancel := context.WithCancel(bg)
			steps := min(n, 5-made)
			if validation == 16 && made+steps < 5 {
				steps++
			}
			c.Progress = &stopAt{steps: steps, cancel: cancel}
			if _, err := Run(ctx, pool, c); !errors.Is(err, context.Canceled) {
				t.Fatalf("cancelled after %d: %v", n, err)
			}
			cancel()
			if _, err := os.Stat(c.Out); err == nil {
				t.Fatal("the output is there after a cancelled run")
			}
		}
		c.Progress = nil
		r := mustRun(t, pool, c)
		if want := int64(5); validation == 16 && r.ResumedSteps != want-1 || validation != 16 && r.ResumedSteps != want {
			t.Errorf("in steps of %d: %d steps were taken over", n, r.ResumedSteps)
		}
		sameContents(t, contents(t, c.Out), want)
	}
}

// TestResumeRefuses checks that the state of another job is left alone, with the
// difference named, and that a state that somebody damaged is not trained on.
func TestResumeRefuses(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	ctx, cancel := context.WithCancel(bg)
	o.Progress = &stopAt{steps: 2, cancel: cancel}
	if _, err := Run(ctx, pool, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	o.Progress = nil
	other := o
	other.Rate = 1e-4
	_, err := Run(bg, pool, other)
	wantFault(t, err, fault.Input, "rate was 0.002 and is now 0.0001")
	other = o
	other.Ranks = []int{3}
	_, err = Run(bg, pool, other)
	wantFault(t, err, fault.Input, "ranks was [2] and is now [3]")

	state := filepath.Join(filepath.Dir(o.Out), ".out.afmq", "state", stateFile)
	data, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, []byte(strings.Replace(string(data), "rank-2.weights", "rank-9.weights", 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Run(bg, pool, o)
	wantFault(t, err, fault.Input, "rank-2.weights")
	if err := os.WriteFile(state, data, 0o666); err != nil {
		t.Fatal(err)
	}
	mustRun(t, pool, o)
}

// TestNonFiniteLoss checks that a run that leaves the numbers stops as unexpected, and
// that the last good state stays.
func TestNonFiniteLoss(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Rate, o.Clip = 1e30, 0
	_, err := Run(bg, pool, o)
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

// TestFrom starts an application's adapter from a recovery adapter, without a teacher.
func TestFrom(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.options(t)
	o.Alpha, o.Pattern, o.Targets, o.RSLoRA = 3, []RankPattern{{"down_proj", 3}}, []string{"mlp"}, true
	mustRun(t, pool, o)
	from := filepath.Join(o.Out, "rank-2")
	n := b.options(t)
	n.Ranks, n.From, n.Loss, n.Teacher = nil, from, LossCE, ""
	r := mustRun(t, pool, n)
	a := r.Adapters[0]
	if a.KLBefore != nil || a.Rank != 2 || a.PerplexityInit == a.PerplexityBefore {
		t.Errorf("%+v", a)
	}
	old, next := contents(t, from), contents(t, filepath.Join(n.Out, a.Last))
	if old[adapter.ConfigFile] != next[adapter.ConfigFile] {
		t.Errorf("the configuration changed:\n%s\n%s", old[adapter.ConfigFile], next[adapter.ConfigFile])
	}
	if old[adapter.WeightsFile] == next[adapter.WeightsFile] {
		t.Error("nothing was trained")
	}
	wrong := n
	wrong.Out, wrong.Ranks = filepath.Join(t.TempDir(), "out"), []int{4}
	_, err := Run(bg, pool, wrong)
	wantFault(t, err, fault.Usage)
	wantNothing(t, wrong.Out)
}

// TestRefuses checks that what cannot be trained says why and leaves nothing.
func TestRefuses(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	short := filepath.Join(t.TempDir(), "short.txt")
	if err := os.WriteFile(short, []byte("Too little."), 0o666); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.CopyFS(other, os.DirFS(b.model)); err != nil {
		t.Fatal(err)
	}
	flipLastByte(t, filepath.Join(other, "model.safetensors"))
	for name, c := range map[string]struct {
		change func(o *Options)
		kind   fault.Kind
		part   string
	}{
		"no artifact":     {func(o *Options) { o.Artifact = b.model }, fault.Input, "is no artifact"},
		"no directory":    {func(o *Options) { o.Artifact = "missing" }, fault.Input, "missing"},
		"another teacher": {func(o *Options) { o.Teacher = other }, fault.Input, "is not that of the checkpoint"},
		"no teacher":      {func(o *Options) { o.Teacher = "" }, fault.Usage, "needs a teacher"},
		"no weights":      {func(o *Options) { o.Teacher, o.Loss = "", LossCE }, fault.Usage, "needs the teacher's weights"},
		"short":           {func(o *Options) { o.Data = []string{short} }, fault.Input, "short.txt"},
		"twice":           {func(o *Options) { o.Data = append(o.Data, o.Data[0]) }, fault.Usage, "given twice"},
		"rank":            {func(o *Options) { o.Ranks = []int{65} }, fault.Usage, "rank 65 is more than"},
		"targets":         {func(o *Options) { o.Targets = []string{"lm_head"} }, fault.Usage, "matches no projection"},
		"pattern":         {func(o *Options) { o.Pattern = []RankPattern{{"nowhere", 3}} }, fault.Usage, "matches no module"},
		"sequence":        {func(o *Options) { o.SeqLen = 1 << 20; o.BatchTokens = 1 << 20 }, fault.Usage, "max_position_embeddings"},
		"from nowhere":    {func(o *Options) { o.Ranks, o.From = nil, "nowhere" }, fault.Input, "nowhere"},
		"rate":            {func(o *Options) { o.Rate = math.NaN() }, fault.Usage, "learning rate"},
	} {
		t.Run(name, func(t *testing.T) {
			o := b.options(t)
			c.change(&o)
			_, err := Run(bg, pool, o)
			wantFault(t, err, c.kind, c.part)
			wantNothing(t, o.Out)
		})
	}
	o := b.options(t)
	o.Teacher, o.AllowTeacher = other, true
	mustRun(t, pool, o)
}

func flipLastByte(t testing.TB, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-2] ^= 1
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
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

// TestRate checks the schedule's ends and that it has one summit.
func TestRate(t *testing.T) {
	const steps = 100
	last := 0.0
	for i := int64(1); i <= steps; i++ {
		r := rateAt(i, steps, 2, 0.1)
		if r <= 0 || r > 2 || (i <= 10) != (r > last) && i != 11 {
			t.Errorf("step %d: %v after %v", i, r, last)
		}
		last = r
	}
	if rateAt(10, steps, 2, 0.1) != 2 || last > 0.01 || rateAt(1, 1, 2, 0) <= 0 {
		t.Errorf("summit %v, end %v", rateAt(10, steps, 2, 0.1), last)
	}
}

// TestDataFiles checks that a text, its lines as JSON and its tokens are the same data
// where they should be, and that the split and the order hold what they promise.
func TestDataFiles(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	m, err := infer.Open(bg, b.model, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	o := b.options(t)
	d := dataOf(t, pool, &o, m)
	held, total := 0, d.TrainTokens()
	for _, s := range d.Validation {
		held += len(s) - 1
	}
	if held < 150 || held > 200 || total < 1000 {
		t.Fatalf("%d tokens held out, %d to train on", held, total)
	}
	// Every pass shows the same tokens in another order.
	n := int64((len(d.join(d.Train)) - 1) / o.SeqLen)
	count := func(epoch int64) map[int32]int {
		c := map[int32]int{}
		for i := range n {
			for _, id := range d.Sequence(epoch*n + i)[:o.SeqLen] {
				c[id]++
			}
		}
		return c
	}
	first := d.Sequence(0)
	again := append([]int32(nil), first...)
	a, z := count(0), count(1)
	differ := 0
	for id, k := range a {
		if z[id] != k {
			differ++
		}
	}
	if differ > 2*(o.SeqLen+1) { // at its end a pass leaves out what fills no sequence
		t.Errorf("two passes differ in %d tokens", differ)
	}
	second := d.Sequence(n)
	if strings.Join(strings.Fields(string(runes(second))), "") == strings.Join(strings.Fields(string(runes(again))), "") {
		t.Error("the second pass begins as the first")
	}
	for i, id := range d.Sequence(0) {
		if id != again[i] {
			t.Fatal("the first sequence changed")
		}
	}

	// Tokens, divided at the separators, are the documents.
	ids := d.join(append([][]int32(nil), d.Train...))
	path := filepath.Join(t.TempDir(), "tokens.safetensors")
	writeTokens(t, path, safetensors.U16, ids)
	docs, _, err := d.readFile(bg, pool, path, m.Tokenizer, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != len(d.Train) {
		t.Fatalf("%d documents, want %d", len(docs), len(d.Train))
	}
	for i := range docs {
		if string(runes(docs[i])) != string(runes(d.Train[i])) {
			t.Fatalf("document %d differs", i)
		}
	}
	writeTokens(t, path, safetensors.I32, []int32{1, 2, -1})
	_, _, err = d.readFile(bg, pool, path, m.Tokenizer, m.Config)
	wantFault(t, err, fault.Input, "index 2")
}

func runes(ids []int32) []rune { return []rune(string(ids)) }

func writeTokens(t testing.TB, path string, dtype safetensors.DType, ids []int32) {
	t.Helper()
	w, err := safetensors.Create(path, []safetensors.Info{{Name: tokensTensor, DType: dtype, Shape: []int{len(ids)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for _, id := range ids {
		data = append(data, byte(id), byte(id>>8))
		if dtype == safetensors.I32 {
			data = append(data, byte(id>>16), byte(id>>24))
		}
	}
	if err := w.Append(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

package recovery

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/grid"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
)

// tuneOptions returns a run of a few small steps.
func (b bench) tuneOptions(t testing.TB, pool *compute.Pool) TuneOptions {
	return TuneOptions{
		Artifact: b.artifact, Teacher: b.model, Data: []string{b.text}, Out: filepath.Join(t.TempDir(), "out"),
		Numbers: AllNumbers(), Tokens: 6 * 64, SeqLen: 16, BatchTokens: 64, Validation: 200, Warmup: 0.2, ToolVersion: "test", Pool: pool,
	}
}

func mustTune(t testing.TB, o TuneOptions) *TuneResult {
	t.Helper()
	r, err := Tune(bg, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// quantized returns an artifact of the bench's model with other options.
func (b bench) quantized(t testing.TB, o quantize.Options) string {
	t.Helper()
	o.Model, o.Out = b.model, filepath.Join(t.TempDir(), "quantized")
	if _, err := quantize.Run(bg, o); err != nil {
		t.Fatal(err)
	}
	return o.Out
}

// openTrainer returns the trainer of a tuning before its first step.
func openTrainer(t testing.TB, o TuneOptions) (*trainer, *tuneRun) {
	t.Helper()
	opts, err := o.options()
	if err != nil {
		t.Fatal(err)
	}
	r, err := openTuneRun(bg, o.Pool, &opts, o.Numbers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.artifact.Close)
	tr := r.trainer(bg)
	r.stored.pack(o.Pool, r.stored.weights, 0)
	return tr, r
}

// The gradients of tables, scales, norms and embedding are the slopes of the loss along random
// directions, by differences of models whose weights are moved without rounding. What an index stands
// for moves with the weight itself.
func TestTuneGradients(t *testing.T) {
	t.Run("plain", func(t *testing.T) { checkTuneGradients(t, model.Scales{}, func(model.TensorSpec) bool { return true }) })
	// Embedding and final norm have scales and caps of a family between them and the rest.
	scales := model.Scales{Embedding: 1.5, Scores: 0.2, Residual: 0.8, Logits: 0.7, ScoreCap: 5, LogitCap: 6}
	t.Run("scaled", func(t *testing.T) {
		checkTuneGradients(t, scales, func(s model.TensorSpec) bool { return s.Layer < 0 })
	})
}

func checkTuneGradients(t *testing.T, scaled model.Scales, checked func(model.TensorSpec) bool) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.tuneOptions(t, pool)
	o.Artifact = b.quantized(t, quantize.Options{Bits: 2})
	tr, r := openTrainer(t, o)
	tr.base.Config.Scales = scaled
	if _, err := tr.gradients(); err != nil {
		t.Fatal(err)
	}
	for _, x := range r.stored.tensors { // precondition without the units
		for i := range x.units {
			x.units[i] = 1
		}
	}
	r.stored.precondition(pool)
	sequences := [][]int32{}
	for i := range tr.sequences {
		sequences = append(sequences, r.data.sequence(int64(i)))
	}
	loss := func() float64 {
		hidden := slices.Clone(tr.teach(sequences, true))
		batch := tr.segments(tr.base, &tr.batch.student, sequences)
		h := tr.runner.Forward(batch)
		return tr.head.gradient(tr.loss, make([]float32, len(h)), h, hidden, tr.batch.targets, nil)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(like []float32, size float64) []float32 {
		out := make([]float32, len(like))
		for i := range out {
			out[i] = float32(rng.NormFloat64() * size)
		}
		return out
	}
	// check compares the slope by differences with the sum of products of gradient and direction.
	check := func(what string, set func(h float32), slope float64) {
		t.Helper()
		at := func(h float32) float64 {
			set(h)
			return loss()
		}
		const h = 1.0 / 64
		want := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
		set(0)
		if math.Abs(slope-want) > 5e-3*math.Abs(want)+2e-3 {
			t.Errorf("%s: slope %v, by differences %v", what, slope, want)
		}
	}
	r.stored.attach(tr.base)
	kinds := map[model.Role]int{}
	for _, x := range r.stored.tensors {
		kinds[x.Spec.Role]++
		if kinds[x.Spec.Role] > 9 && x.Spec.Layer > 0 || !checked(x.Spec) {
			continue // a layer of projections, and of norms
		}
		name, grads := x.Spec.Name, x.grads
		if len(x.Spec.Shape) == 1 {
			before := slices.Clone(x.vector)
			d := random(before, 0.3)
			check(name, func(h float32) {
				v := slices.Clone(before)
				kernel.AddScaled(v, d, h)
				tr.base.SetVector(x.Spec, v)
			}, kernel.Dot(d, grads.Scales))
			continue
		}
		rows, cols := x.Spec.Shape[0], x.Spec.Shape[1]
		w := make([]float32, rows*cols)
		for i := range rows {
			x.matrix.Row(w[i*cols:(i+1)*cols], i)
		}
		move := func(what string, change []float32, slope float64) {
			check(name+" "+what, func(h float32) {
				v := slices.Clone(w)
				kernel.AddScaled(v, change, h)
				tr.base.SetMatrix(x.Spec, compute.PackF32(rows, cols, v))
			}, slope)
		}
		scales := make([]float32, rows)
		switch m := x.Trainable.(type) {
		case *trainedInt8:
			copy(scales, m.scale)
		default:
			x.Read(grid.Values{Scales: scales})
			// Directions of the tables.
			tables, _, _ := x.Lengths()
			d := random(make([]float32, tables), 0.3)
			p := x.grid.(grid.Palette)
			matrix, err := p.Matrix(x.Data(), rows, cols)
			if err != nil {
				t.Fatal(err)
			}
			change, index := make([]float32, rows*cols), make([]uint8, cols)
			for row := range rows {
				palettize.UnpackRow(index, matrix.Indices[row*matrix.RowBytes():(row+1)*matrix.RowBytes()], p.Bits)
				for c, i := range index {
					change[row*cols+c] = scales[row] * d[row/p.GroupRows<<p.Bits|int(i)]
				}
			}
			move("tables", change, kernel.Dot(d, grads.Tables))
		}
		d := random(scales, 0.1)
		change := make([]float32, rows*cols)
		for i := range change {
			row := i / cols
			d[row] = min(d[row], 0.3) * scales[row]
			change[i] = w[i] / scales[row] * d[row]
			if i%cols < cols-1 {
				d[row] /= scales[row] // until the last column
			}
		}
		move("scales", change, kernel.Dot(d, grads.Scales))
		codes := random(w, 0.3)
		for i := range change {
			change[i] = codes[i] * scales[i/cols]
		}
		move("codes", change, kernel.Dot(codes, grads.Codes))
	}
	if kinds[model.Projection] != 28 || kinds[model.Embedding] != 1 || kinds[model.Norm] != 17 {
		t.Errorf("tensors of each role: %v", kinds)
	}
}

// Tuning lowers the divergence on text that chose nothing, the files are an intact artifact of the same
// size that does what the result says, and its manifest tells where it comes from.
func TestTune(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.tuneOptions(t, pool)
	o.Tokens = 40 * 64
	r := mustTune(t, o)
	if !(r.Validation.KLAfter < r.Validation.KLBefore) || !(r.Test.KLAfter < 0.95*r.Test.KLBefore) || !(r.Test.PerplexityAfter < r.Test.PerplexityBefore) {
		t.Errorf("%+v", r.TuneRecord)
	}
	if _, err := artifact.Verify(bg, o.Out, artifact.VerifyOptions{Pool: pool}); err != nil {
		t.Error(err)
	}
	before, after := size(t, b.artifact), size(t, o.Out)
	if before != after || after != r.Bytes {
		t.Errorf("the weights have %d bytes, before %d; the result says %d", after, before, r.Bytes)
	}
	parent, err := artifact.ReadManifest(b.artifact)
	if err != nil {
		t.Fatal(err)
	}
	m, err := artifact.ReadManifest(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	if r.Parent != parent.ContentHash || r.ContentHash != m.ContentHash || m.ContentHash == parent.ContentHash || m.BPW != parent.BPW || m.Ledger != parent.Ledger {
		t.Errorf("content hashes %s of %s; the result says %s of %s", m.ContentHash, parent.ContentHash, r.ContentHash, r.Parent)
	}
	x := m.Tuning[0]
	if len(m.Tuning) != 1 || x.Parent != parent.ContentHash || !slices.Equal(x.Numbers, []string{"tables", "scales", "norms", "embedding", "indices"}) || x.Tokens != 40*64 || x.Step != r.Step || len(x.Passages) == 0 || len(x.Files) != 1 {
		t.Errorf("the manifest says %+v", m.Tuning)
	}
	// The stored artifact has the figures of the result, and the errors of the manifest.
	tuned, err := infer.Open(bg, o.Out, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	teacher, err := infer.Open(bg, b.model, infer.OpenOptions{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	opts, err := o.options()
	if err != nil {
		t.Fatal(err)
	}
	if err := opts.sequence(tuned.Config.MaxPositions); err != nil {
		t.Fatal(err)
	}
	tr := newTrainer(pool, &opts, dataOf(t, pool, &opts, tuned), tuned, teacher, nil)
	scores, err := tr.measure(bg, tr.data.test, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if scores[0].KL != r.Test.KLAfter || math.Exp(scores[0].Nats) != r.Test.PerplexityAfter || scores[0].Tokens != r.TestTokens {
		t.Errorf("the stored artifact has %+v on the test text, the result says %+v", scores[0], r.Test)
	}
	for _, pm := range m.Plan.Modules {
		for _, spec := range tuned.Config.Tensors() {
			if spec.Module() != pm.Name {
				continue
			}
			if want := relativeError(nil, matrixOf(tuned, spec), matrixOf(teacher, spec)); math.Abs(want-pm.RelError) > 1e-9 || pm.OutputError != 0 {
				t.Errorf("%s has a relative error of %v, the manifest says %v", pm.Name, want, pm.RelError)
			}
		}
	}
	if _, err := ReadMetrics(o.Out); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(o.Out, TuneRecordFile)); err != nil || !strings.Contains(string(text), `"schema": "afmq.tuning/v1"`) {
		t.Errorf("%v: %s", err, text)
	}

	// A tuned artifact is tuned again, and adapters are trained on it; neither holds out text of before.
	again := b.tuneOptions(t, pool)
	again.Artifact, again.Tokens, again.Validation = o.Out, 64, 100
	mustTune(t, again)
	m, err = artifact.ReadManifest(again.Out)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Tuning) != 2 || m.Tuning[1].Parent != r.ContentHash {
		t.Errorf("tuned twice, the manifest says %+v", m.Tuning)
	}
	known := (&run{manifest: m}).known()
	heldOut := dataOf(t, pool, &opts, tuned)
	if known(heldOut.train[0]) == 0 || known(slices.Concat(heldOut.test...)) != 0 {
		t.Error("passages of training text are not known, or of test text are")
	}
	adapted := b.options(t)
	adapted.Artifact, adapted.Tokens, adapted.Validation = again.Out, 64, 100
	mustRun(t, pool, adapted)
}

func size(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, artifact.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// Each kind of numbers changes the tensors that hold it, and no others.
func TestTuneNumbers(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	parent := b.quantized(t, quantize.Options{Bits: 3, Pool: pool})
	for n, suffixes := range map[Numbers][]string{
		Tables: {".lut"}, Scales: {".row_scale"}, Norms: {"norm.weight"},
		Embedding: {"embed_tokens.weight.q", "embed_tokens.weight.scale"}, Indices: {".indices"},
	} {
		o := b.tuneOptions(t, pool)
		o.Artifact, o.Numbers, o.Tokens = parent, []Numbers{n}, 30*64
		if n == Indices {
			o.Rate = 0.03
		}
		mustTune(t, o)
		before, err := artifact.ReadManifest(parent)
		if err != nil {
			t.Fatal(err)
		}
		after, err := artifact.ReadManifest(o.Out)
		if err != nil {
			t.Fatal(err)
		}
		changed := 0
		for i, d := range after.Tensors {
			if d.SHA256 == before.Tensors[i].SHA256 {
				continue
			}
			changed++
			if !slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(d.Name, s) }) {
				t.Errorf("%s: %s changed", n, d.Name)
			}
		}
		if changed == 0 {
			t.Errorf("%s: nothing changed", n)
		}
	}
}

// Artifacts on every family of grids can be tuned.
func TestTuneGrids(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	for _, g := range []grid.Grid{grid.Affine{Bits: 3, Group: 32}, grid.Integer{Bits: 3, Group: 32, ZeroPoint: true}, grid.Block{Type: ggml.IQ4_NL}} {
		o := b.tuneOptions(t, pool)
		o.Artifact = b.quantized(t, quantize.Options{Form: artifact.GridForm(g)})
		o.Tokens = 12 * 64
		r := mustTune(t, o)
		if !(r.Test.KLAfter < r.Test.KLBefore) {
			t.Errorf("%v: KL %v, tuned %v", g, r.Test.KLBefore, r.Test.KLAfter)
		}
		if _, err := artifact.Verify(bg, o.Out, artifact.VerifyOptions{Pool: pool}); err != nil {
			t.Errorf("%v: %v", g, err)
		}
	}
}

// An embedding in palettes is tuned like the projections.
func TestTuneEmbeddingPalette(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.tuneOptions(t, pool)
	o.Artifact = b.quantized(t, quantize.Options{Bits: 4, Overrides: []sensitivity.Override{{Pattern: "embed_tokens", Bits: 3}}})
	o.Numbers, o.Tokens = []Numbers{Embedding}, 30*64
	r := mustTune(t, o)
	if !(r.Test.KLAfter < 0.97*r.Test.KLBefore) {
		t.Errorf("KL %v, tuned %v", r.Test.KLBefore, r.Test.KLAfter)
	}
	if _, err := artifact.Verify(bg, o.Out, artifact.VerifyOptions{Pool: pool}); err != nil {
		t.Error(err)
	}
}

// Interrupted after any step, with any number of threads, with layers recomputed: the same bytes.
func TestTuneSameBytes(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.tuneOptions(t, pool)
	mustTune(t, o)
	want := contents(t, o.Out)
	for n := 2; n < 5; n += 2 {
		c := o
		c.Out = filepath.Join(t.TempDir(), "out")
		for range 5 / n {
			ctx, cancel := context.WithCancel(bg)
			c.Progress = &stopAt{Reporter: progress.Silent, steps: n, cancel: cancel}
			if _, err := Tune(ctx, c); !errors.Is(err, context.Canceled) {
				t.Fatalf("cancelled after %d: %v", n, err)
			}
			cancel()
		}
		c.Progress = nil
		if r := mustTune(t, c); r.ResumedSteps != int64(5/n*n) {
			t.Errorf("in steps of %d: %d steps were taken over", n, r.ResumedSteps)
		}
		sameContents(t, contents(t, c.Out), want)
	}
	for _, threads := range []int{1, 3} {
		c := o
		c.Out, c.Pool, c.Recompute = filepath.Join(t.TempDir(), "out"), newPool(t, threads), threads == 3
		mustTune(t, c)
		sameContents(t, contents(t, c.Out), want)
	}
}

// Every field of TuneOptions changes the identity of a run, or is listed as one that must not.
func TestTuneIdentity(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	base := b.tuneOptions(t, pool)
	identity := func(o TuneOptions) string {
		t.Helper()
		opts, err := o.options()
		if err != nil {
			t.Fatal(err)
		}
		r, err := openTuneRun(bg, pool, &opts, o.Numbers)
		if err != nil {
			t.Fatal(err)
		}
		r.artifact.Close()
		return string(r.job)
	}
	dir := t.TempDir()
	text := filepath.Join(dir, "text.jsonl")
	lines, err := os.ReadFile(b.text)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, append([]byte("\n"), lines...), 0o666); err != nil {
		t.Fatal(err)
	}
	three := b.quantized(t, quantize.Options{Bits: 3})
	unrelated := map[string]string{
		"Teacher": "must be the checkpoint that the artifact names", "Out": "not in the files", "Recompute": "the same sums",
		"Restart": "discards a state", "Pool": "", "Threads": "", "Progress": "only reports",
	}
	changes := map[string]func(*TuneOptions){
		"Artifact":    func(o *TuneOptions) { o.Artifact = three },
		"Data":        func(o *TuneOptions) { o.Data = []string{text} },
		"Numbers":     func(o *TuneOptions) { o.Numbers = []Numbers{Scales, Tables} },
		"Loss":        func(o *TuneOptions) { o.Loss = LossCE },
		"Mix":         func(o *TuneOptions) { o.Mix = 0.25 },
		"Temperature": func(o *TuneOptions) { o.Temperature = 2 },
		"Tokens":      func(o *TuneOptions) { o.Tokens *= 2 },
		"SeqLen":      func(o *TuneOptions) { o.SeqLen = 8 },
		"BatchTokens": func(o *TuneOptions) { o.BatchTokens = 32 },
		"Rate":        func(o *TuneOptions) { o.Rate = 1e-4 },
		"Warmup":      func(o *TuneOptions) { o.Warmup = 0.3 },
		"Clip":        func(o *TuneOptions) { o.Clip = 2 },
		"Seed":        func(o *TuneOptions) { o.Seed = 3 },
		"Validation":  func(o *TuneOptions) { o.Validation = 100 },
		"ToolVersion": func(o *TuneOptions) { o.ToolVersion = "other" },
	}
	if slices.Contains(compute.Names(), "bf16") {
		changes["Compute"] = func(o *TuneOptions) { o.Compute = compute.BF16 }
	} else {
		unrelated["Compute"] = "this machine has one arithmetic"
	}
	want := identity(base)
	for i := range reflect.TypeFor[TuneOptions]().NumField() {
		name := reflect.TypeFor[TuneOptions]().Field(i).Name
		change := changes[name]
		if _, listed := unrelated[name]; listed != (change == nil) {
			t.Errorf("%s is in both lists or in none", name)
		}
		if change == nil {
			continue
		}
		o := base
		change(&o)
		if identity(o) == want {
			t.Errorf("%s does not change the identity", name)
		}
	}
	same := base
	same.Numbers = []Numbers{Indices, Embedding, Norms, Scales, Tables}
	if identity(same) != want {
		t.Error("the order of the numbers changes the identity")
	}
}

// What cannot be done is refused before anything is written, with the way out.
func TestTuneRefuses(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	kept := b.quantized(t, quantize.Options{Bits: 2, Overrides: []sensitivity.Override{{Pattern: "layers", Bits: 16}}})
	for name, c := range map[string]struct {
		change func(o *TuneOptions)
		kind   fault.Kind
		says   string
	}{
		"unknown numbers": {func(o *TuneOptions) { o.Numbers = []Numbers{"biases"} }, fault.Usage, "numbers biases: expected some of tables, scales, norms, embedding, indices, each once"},
		"twice":           {func(o *TuneOptions) { o.Numbers = []Numbers{Norms, Norms} }, fault.Usage, "each once"},
		"none":            {func(o *TuneOptions) { o.Numbers = []Numbers{} }, fault.Usage, "no numbers to train"},
		"no teacher":      {func(o *TuneOptions) { o.Teacher = "" }, fault.Usage, "no teacher"},
		"a checkpoint":    {func(o *TuneOptions) { o.Artifact = b.model }, fault.Input, "is not an artifact: it has no manifest.json"},
		"its own teacher": {func(o *TuneOptions) { o.Teacher = b.artifact }, fault.Input, "is an afmq artifact, not the checkpoint"},
		"no row scales":   {func(o *TuneOptions) { o.Numbers = []Numbers{Scales} }, fault.Input, "stores nothing of what is to be tuned: scales"},
		"all kept":        {func(o *TuneOptions) { o.Artifact, o.Numbers = kept, []Numbers{Tables, Indices} }, fault.Input, "stores nothing of what is to be tuned: tables, indices"},
	} {
		o := b.tuneOptions(t, pool)
		c.change(&o)
		_, err := Tune(bg, o)
		if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		wantNothing(t, o.Out)
	}
}

// What is stored when no step is better is the artifact before, byte for byte: also norms and biases in
// F32, which rounding to 16 bits does not protect.
func TestTuneKeepsWhatIsBest(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.tuneOptions(t, pool)
	f32 := &trainedVector{dtype: 0, values: []float32{1.1, -0.37, 0.003, 2.7e-5, 0}}
	units, v := grid.Values{Scales: make([]float32, 5)}, grid.Values{Scales: make([]float32, 5)}
	f32.Units(units)
	f32.Read(v)
	for i := range v.Scales {
		v.Scales[i] = v.Scales[i] / units.Scales[i] * units.Scales[i]
	}
	if !slices.Equal(v.Scales, f32.values) {
		t.Errorf("%v, want %v", v.Scales, f32.values)
	}
	bad := o
	bad.Rate = 0.5
	res := mustTune(t, bad)
	if res.Step != 0 || res.ContentHash != res.Parent || len(res.Warnings) == 0 {
		t.Errorf("step %d, content hash %s of %s, warnings %q", res.Step, res.ContentHash, res.Parent, res.Warnings)
	}
	m, err := artifact.ReadManifest(bad.Out)
	if err != nil {
		t.Fatal(err)
	}
	parent, err := artifact.ReadManifest(b.artifact)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m.Plan.Modules, parent.Plan.Modules) {
		t.Error("the manifest describes other modules")
	}
}

// Text that the artifact was calibrated on is not held out, and the passages of the manifest are of text
// that was trained on.
func TestTuneHeldOut(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.tuneOptions(t, pool)
	o.Artifact = b.quantized(t, quantize.Options{Bits: 2, Calibration: sensitivity.CalibrationOptions{Files: []string{b.text}, Tokens: 512, SeqLen: 32}})
	o.Tokens, o.BatchTokens = 64, 64
	tr, r := openTrainer(t, o)
	calibration := artifact.PassageCounter(r.manifest.Calibration.Passages)
	if len(r.manifest.Calibration.Passages) == 0 {
		t.Fatal("no passages of the calibration text")
	}
	for _, part := range [][][]int32{r.data.validation, r.data.test} {
		var stream []int32
		for _, s := range part {
			stream = append(stream, s[:len(s)-1]...)
		}
		if n := calibration(stream); n > 0 {
			t.Errorf("%d passages of the calibration text are held out", n)
		}
	}
	if n := len(tr.trainedOn()); tr.opts.SeqLen >= artifact.PassageTokens && n != int(tr.steps)*tr.sequences {
		t.Errorf("%d sequences count as trained on", n)
	}
}

// A file of the artifact that changes during training costs nothing: it was read before.
func TestTuneFileChanges(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := b.tuneOptions(t, pool)
	o.Artifact = filepath.Join(t.TempDir(), "artifact")
	if err := os.CopyFS(o.Artifact, os.DirFS(b.artifact)); err != nil {
		t.Fatal(err)
	}
	o.Progress = &stopAt{Reporter: progress.Silent, steps: 2, cancel: func() {
		if err := os.WriteFile(filepath.Join(o.Artifact, artifact.TokenizerFile), []byte("{}"), 0o666); err != nil {
			t.Error(err)
		}
	}}
	mustTune(t, o)
	if _, err := artifact.Verify(bg, o.Out, artifact.VerifyOptions{Pool: pool}); err != nil {
		t.Error(err)
	}
}

package recovery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"afmq/pkg/compute"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// trainPython names an interpreter with the packages of afmq_train; scripts/test-train sets it.
const trainPython = "AFMQ_TRAIN_PYTHON"

// needPython returns that interpreter.
func needPython(t testing.TB) string {
	t.Helper()
	python := os.Getenv(trainPython)
	if python == "" {
		t.Skipf("%s names no Python interpreter with PyTorch; scripts/test-train sets it", trainPython)
	}
	return python
}

// askWorker runs testdata/worker.py and returns what it printed.
func askWorker(t testing.TB, input string, args ...string) string {
	t.Helper()
	cmd := exec.Command(needPython(t), append([]string{"testdata/worker.py"}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH=../../scripts", "PYTHONDONTWRITEBYTECODE=1", "OMP_NUM_THREADS=1")
	cmd.Stdin = strings.NewReader(input)
	var messages bytes.Buffer
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &messages)
	}
	return string(out)
}

// writeAsked writes a job for testdata/worker.py and returns its path and that of its results.
func writeAsked(t testing.TB, job *TrainJob, in *jobInputs) (path, results string) {
	t.Helper()
	dir := t.TempDir()
	job.Inputs = inputFile
	if err := in.write(filepath.Join(dir, inputFile)); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, jobFile)
	if err := os.WriteFile(path, text, 0o666); err != nil {
		t.Fatal(err)
	}
	return path, filepath.Join(dir, "out.safetensors")
}

func (in *jobInputs) ids(sequences [][]int32) {
	in.add("ids", safetensors.I32, []int{len(sequences), len(sequences[0])}, func(write func([]byte) error) error {
		for _, s := range sequences {
			if err := writeValues(write, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestWorkerForward holds the logits of the worker to those of transformers for the checkpoints of
// every family, and to the engine's for every stored form.
func TestWorkerForward(t *testing.T) {
	needPython(t)
	pool := newPool(t, 2)
	type asked struct {
		name, results string
		want          []float32
	}
	var all []asked
	paths := []string{"forward"}
	ask := func(name, dir string, ids []int32, want []float32) {
		m, err := infer.OpenWeights(bg, dir, infer.OpenOptions{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		in := &jobInputs{}
		base, err := in.model(bg, "base", m, len(ids))
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			r := m.NewRunner(pool)
			hidden := r.Forward([]infer.Segment{{Cache: m.NewCache(len(ids)), Tokens: ids}})
			want = make([]float32, len(ids)*m.Config.VocabSize)
			r.Logits(want, hidden, len(ids))
		}
		in.ids([][]int32{ids})
		path, results := writeAsked(t, &TrainJob{Base: *base}, in)
		all, paths = append(all, asked{name, results, want}), append(paths, path)
	}
	dirs, err := filepath.Glob("../infer/testdata/models/*")
	if err != nil || len(dirs) < 20 {
		t.Fatalf("%d checkpoints, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		c, err := model.LoadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(workerFamilies, c.ModelType) {
			continue
		}
		f := openFile(t, filepath.Join(dir, "expected.safetensors"))
		x, _ := f.Tensor("ids")
		ids, err := safetensors.View[int32](x)
		if err != nil {
			t.Fatal(err)
		}
		ask(filepath.Base(dir), dir, ids, floats(t, f, "logits"))
	}
	b := newBench(t)
	ids := make([]int32, 40)
	for i := range ids {
		ids[i] = int32(3 + 37*i%2000)
	}
	for name, o := range map[string]quantize.Options{
		"2 bits": {Bits: 2}, "3 bits": {Bits: 3}, "5 bits, no row scale": {Bits: 5, NoRowScale: true}, "8 bits": {Bits: 8},
		"embedding in 3 bits": {Bits: 4, Overrides: []sensitivity.Override{{Pattern: "embed_tokens", Bits: 3}}},
		"q4_0":                {Form: "q4_0"}, "affine": {Form: "affine4_g32"}, "symmetric": {Form: "symmetric4_g32"},
	} {
		o.Pool, o.Model, o.Out = pool, b.model, filepath.Join(t.TempDir(), "artifact")
		if _, err := quantize.Run(bg, o); err != nil {
			t.Fatal(err)
		}
		ask(name, o.Out, ids, nil)
	}
	askWorker(t, "", paths...)
	for _, a := range all {
		f := openFile(t, a.results)
		for _, name := range f.Names() {
			got := floats(t, f, name)
			size, worst := 0.0, 0.0
			for i, w := range a.want {
				size = max(size, math.Abs(float64(w)))
				worst = max(worst, math.Abs(float64(got[i]-w)))
			}
			if len(got) != len(a.want) || !(worst <= 1e-4*size) {
				t.Errorf("%s, %s: logits differ by up to %v of %v", a.name, name, worst, size)
			}
		}
	}
}

// TestWorkerGradients holds losses and gradients of the worker to those of PEFT in float64.
func TestWorkerGradients(t *testing.T) {
	needPython(t)
	type asked struct {
		results string
		parts   []part
		c       torchCase
	}
	all, paths := map[string]asked{}, []string{"gradients"}
	eachTorchCase(t, func(sub *testing.T, pool *compute.Pool, c torchCase) {
		if !slices.Contains(workerFamilies, c.model.Config.ModelType) {
			return
		}
		in := &jobInputs{}
		base, err := in.model(bg, "base", c.model, len(c.sequences[0])-1)
		if err != nil {
			t.Fatal(err)
		}
		in.ids(c.sequences)
		s := newStudent(pool, c.model.Config, &c.adapter.Config)
		student := TrainStudent{}
		for _, p := range s.parts {
			w := c.adapter.Modules[p.name]
			in.rows(p.name+".A", p.rank, p.spec.Shape[1], func(dst []float32, i int) { copy(dst, w.A[i*len(dst):]) })
			in.rows(p.name+".B", p.spec.Shape[0], p.rank, func(dst []float32, i int) { copy(dst, w.B[i*len(dst):]) })
			student.Parts = append(student.Parts, TrainPart{p.spec.Layer, p.spec.Kind, p.rank, p.spec.Shape[0], p.spec.Shape[1], float64(p.scale), p.name})
		}
		path, results := writeAsked(t, &TrainJob{Base: *base, Students: []TrainStudent{student}}, in)
		askWorker(t, "", "gradients", path)
		all[sub.Name()], paths = asked{results, s.parts, c}, append(paths, path)
	})
	askWorker(t, "", paths...)
	for name, a := range all {
		compareWorkerGradients(t, name, a.results, a.parts, a.c)
	}
}

func compareWorkerGradients(t *testing.T, name, results string, parts []part, c torchCase) {
	f, expected := openFile(t, results), openFile(t, c.expected.Path())
	n := float64(len(c.sequences) * (len(c.sequences[0]) - 1))
	for _, packed := range []string{"False", "True"} {
		for _, kind := range []string{"kl", "kl_temperature", "ce", "mix"} {
			got, want := float64(floats(t, f, packed+".loss."+kind)[0])/n, float64(floats(t, expected, "loss."+kind)[0])
			if d := math.Abs(got - want); !(d <= 2e-6*math.Abs(want)+2e-8) {
				t.Errorf("%s, %s: the loss is %v, want %v", name, kind, got, want)
			}
		}
		for _, kind := range []string{"kl", "mix"} {
			for _, p := range parts {
				for _, side := range []string{"A", "B"} {
					got := floats(t, f, packed+"."+kind+"."+p.name+"."+side)
					want := floats(t, expected, kind+".base_model.model."+p.name+".lora_"+side+".weight")
					size := 0.0
					for _, w := range want {
						size = max(size, math.Abs(float64(w)))
					}
					for i, w := range want {
						if d := math.Abs(float64(got[i])/n - float64(w)); !(d <= 5e-5*size) {
							t.Fatalf("%s, %s: gradient %d of %s.%s is %v, want %v (largest %v)", name, kind, i, p.name, side, float64(got[i])/n, w, size)
						}
					}
				}
			}
		}
	}
}

// TestWorkerOrder holds the sequences that the worker draws to corpus.sequence.
func TestWorkerOrder(t *testing.T) {
	needPython(t)
	for name, c := range map[string]struct {
		documents int
		separator int32
		seed      int64
	}{"many": {97, 2, 5}, "one": {1, 2, 0}, "no separator": {1, -1, 7}, "negative seed": {40, 0, -3}} {
		t.Run(name, func(t *testing.T) {
			corpus := &corpus{seqLen: 16, separator: c.separator, seed: c.seed, epoch: -1}
			rng := rand.New(rand.NewPCG(1, 2))
			for range c.documents {
				ids := make([]int32, 1+rng.IntN(40)+900/c.documents)
				for i := range ids {
					ids[i] = rng.Int32N(1000)
				}
				corpus.train = append(corpus.train, ids)
			}
			in := &jobInputs{}
			in.text(corpus)
			path, results := writeAsked(t, &TrainJob{Seed: c.seed, Separator: c.separator, SeqLen: corpus.seqLen}, in)
			count := int(3*corpus.perEpoch() + 5)
			askWorker(t, "", "order", path, strconv.Itoa(count))
			x, _ := openFile(t, results).Tensor("sequences")
			got, err := safetensors.View[int32](x)
			if err != nil {
				t.Fatal(err)
			}
			for i := range count {
				if want := corpus.sequence(int64(i)); !slices.Equal(got[i*17:(i+1)*17], want) {
					t.Fatalf("sequence %d is %v, want %v", i, got[i*17:(i+1)*17], want)
				}
			}
		})
	}
}

// TestWorkerNumbers holds the numbers that the worker writes to encoding/json, since the digest of a
// saved state is over them.
func TestWorkerNumbers(t *testing.T) {
	needPython(t)
	values := []float64{0, 1, -1, 0.1, 1e-6, 9.999e-7, 1e-7, 1e20, 1e21, 1.5e21, 123456789012345680000, 5e-324, math.MaxFloat64, 100, 0.001, 1e-10, 2.5e-9, 1e15, 1e16, 1e17}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		values = append(values, math.Float64frombits(rng.Uint64()), rng.NormFloat64(), math.Exp(20*rng.NormFloat64()))
	}
	values = slices.DeleteFunc(values, func(v float64) bool { return !finite(v) })
	var input strings.Builder
	for _, v := range values {
		fmt.Fprintln(&input, strconv.FormatFloat(v, 'g', -1, 64))
	}
	got := strings.Fields(askWorker(t, input.String(), "numbers"))
	for i, v := range values {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got[i] != string(want) {
			t.Fatalf("%v is %s, want %s", v, got[i], want)
		}
	}
}

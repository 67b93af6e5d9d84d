package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/progress"
)

// torchOptions returns a run of a few steps of three sequences, which two processes share unevenly.
func torchOptions(t testing.TB, b bench) Options {
	t.Setenv("OMP_NUM_THREADS", "1")
	o := b.options(t)
	o.Tokens, o.BatchTokens = 12*48, 48
	return o
}

func underTorchrun(t testing.TB, o Options, w Torchrun) Options {
	w.Python = needPython(t)
	o.Out, o.Torchrun = filepath.Join(t.TempDir(), "out"), &w
	return o
}

// sameCurve checks that two runs have the same metrics within a relative tolerance of their losses.
func sameCurve(t *testing.T, what, got, want string, tolerance float64) {
	t.Helper()
	a, err := ReadMetrics(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadMetrics(want)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != len(b) {
		t.Fatalf("%s: %d metrics, want %d", what, len(a), len(b))
	}
	for i := range a {
		if a[i].Step != b[i].Step || a[i].Tokens != b[i].Tokens || a[i].Rank != b[i].Rank || math.Abs(a[i].Rate-b[i].Rate) > 1e-12 {
			t.Fatalf("%s: metric %d is of step %d, want %d", what, i, a[i].Step, b[i].Step)
		}
		for _, v := range [][2]*float64{{a[i].Loss, b[i].Loss}, {a[i].KL, b[i].KL}, {a[i].Perplexity, b[i].Perplexity}, {&a[i].GradientNorm, &b[i].GradientNorm}} {
			if (v[0] == nil) != (v[1] == nil) || v[0] != nil && !(math.Abs(*v[0]-*v[1]) <= tolerance**v[1]) {
				t.Errorf("%s: step %d: %v, want %v", what, a[i].Step, value(v[0]), value(v[1]))
			}
		}
	}
}

func value(v *float64) any {
	if v == nil {
		return nil
	}
	return *v
}

func madeBy(r *Record) (out []string) {
	for _, m := range r.Made {
		out = append(out, fmt.Sprintf("%d-%d %s %s %d", m.From, m.To, m.By, m.Compute, m.Processes))
	}
	return out
}

// TestTorchrun holds the worker to this process: the same curves with one process and with two that
// share the sequences unevenly and divide the models.
func TestTorchrun(t *testing.T) {
	needPython(t)
	b, pool := newBench(t), newPool(t, 2)
	o := torchOptions(t, b)
	o.Ranks = []int{2, 3}
	want := mustRun(t, pool, o)
	for name, w := range map[string]Torchrun{
		"one process":            {},
		"two processes":          {Processes: 2, MicroBatch: 1},
		"two processes and FSDP": {Processes: 2, Parallel: FSDP, Packed: true},
	} {
		run := underTorchrun(t, o, w)
		run.Recompute = w.Packed
		got := mustRun(t, pool, run)
		sameCurve(t, name, run.Out, o.Out, 1e-4)
		for i, a := range got.Adapters {
			if k, m := *a.Test.KLAfter, *want.Adapters[i].Test.KLAfter; !(math.Abs(k-m) <= 1e-3*m) {
				t.Errorf("%s: rank %d ends with a divergence of %v, want %v", name, a.Rank, k, m)
			}
		}
		if by := strings.Join(madeBy(&got.Record), ", "); by != fmt.Sprintf("0-12 torchrun f32 %d", max(w.Processes, 1)) {
			t.Errorf("%s: steps were made by %s", name, by)
		}
	}
}

// TestTorchrunContinues lets either of the two programs continue what the other saved.
func TestTorchrunContinues(t *testing.T) {
	needPython(t)
	b, pool := newBench(t), newPool(t, 2)
	o := torchOptions(t, b)
	mustRun(t, pool, o)
	interrupt := func(run Options) {
		t.Helper()
		ctx, cancel := context.WithCancel(bg)
		defer cancel()
		run.Progress = &stopAt{Reporter: progress.Silent, steps: 2, cancel: cancel}
		if _, err := runOn(ctx, pool, run); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	check := func(what string, run Options, by ...string) {
		t.Helper()
		got := mustRun(t, pool, run)
		sameCurve(t, what, run.Out, o.Out, 1e-4)
		for i, part := range by {
			if len(got.Made) != len(by) || got.Made[i].By != part {
				t.Errorf("%s: steps were made by %v", what, madeBy(&got.Record))
				break
			}
		}
	}
	first := underTorchrun(t, o, Torchrun{})
	worker := first.Torchrun
	first.Torchrun = nil
	interrupt(first)
	first.Torchrun = worker
	check("afmq, then torchrun", first, "afmq", "torchrun")

	// The job alone, killed in the middle, then torchrun without afmq, then afmq.
	second := underTorchrun(t, o, Torchrun{})
	p, err := Prepare(bg, second)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(p.Directory, "../recovery.safetensors")
	if code := standalone(t, p, "import os, afmq_train.train as m\nsave = m.Trainer.save\ndef kill(self):\n    save(self)\n    if self.state.step == 5: os.kill(os.getpid(), 9)\nm.Trainer.save = kill"); code == 0 {
		t.Fatal("the killed worker ended well")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	second.Torchrun = nil
	check("torchrun, killed, then afmq", second, "torchrun", "afmq")

	third := underTorchrun(t, o, Torchrun{})
	if p, err = Prepare(bg, third); err != nil {
		t.Fatal(err)
	}
	if code := standalone(t, p, ""); code != 0 {
		t.Fatalf("the job ended with %d", code)
	}
	third.Torchrun = nil
	check("the job alone", third, "torchrun")
}

// standalone runs a job as torchrun does, after some Python, and returns the exit code.
func standalone(t testing.TB, p *Prepared, before string) int {
	t.Helper()
	cmd := exec.Command(needPython(t), "-c", before+"\nimport sys\nfrom afmq_train.__main__ import main\nsys.exit(main())", p.Job)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+p.Directory)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%v: %s", err, bytes.TrimSpace(out))
	}
	return cmd.ProcessState.ExitCode()
}

// TestTorchrunRefuses checks what a worker refuses, and that its errors keep the saved state.
func TestTorchrunRefuses(t *testing.T) {
	needPython(t)
	b, pool := newBench(t), newPool(t, 2)
	art := filepath.Join(t.TempDir(), "artifact")
	if err := os.CopyFS(art, os.DirFS(b.artifact)); err != nil {
		t.Fatal(err)
	}
	o := underTorchrun(t, torchOptions(t, b), Torchrun{})
	o.Artifact = art
	p, err := Prepare(bg, o)
	if err != nil {
		t.Fatal(err)
	}
	says := func(what, python string, env []string, parts ...string) {
		t.Helper()
		cmd := exec.Command(needPython(t), "-m", "afmq_train", p.Job)
		if python != "" {
			cmd = exec.Command(needPython(t), "-c", python+"\nimport sys\nfrom afmq_train.__main__ import main\nsys.exit(main())", p.Job)
		}
		cmd.Env = append(append(os.Environ(), "PYTHONPATH="+p.Directory), env...)
		out, err := cmd.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		last := lines[len(lines)-1]
		for _, part := range parts {
			if err == nil || !strings.Contains(last, part) {
				t.Errorf("%s: %v: %q does not say %q", what, err, last, part)
			}
		}
	}
	edit := func(path, old, now string) (undo func()) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		edited := bytes.Replace(data, []byte(old), []byte(now), 1)
		if bytes.Equal(edited, data) {
			t.Fatalf("%s does not hold %s", path, old)
		}
		if err := os.WriteFile(path, edited, 0o666); err != nil {
			t.Fatal(err)
		}
		return func() { os.WriteFile(path, data, 0o666) }
	}
	undo := edit(p.Job, TrainJobSchema, "afmq.train-job/v9")
	says("another version", "", nil, "job.json: has schema 'afmq.train-job/v9'; this version of afmq_train reads 'afmq.train-job/v1'")
	undo()
	weights := filepath.Join(art, "model.safetensors")
	data, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	flipLastByte(t, weights)
	says("a changed artifact", "", nil, "model.safetensors: was changed after the job was written")
	os.WriteFile(weights, data, 0o666)
	undo = edit(filepath.Join(p.Directory, "../recovery.safetensors"), `"kl\":0.`, `"kl\":1.`)
	says("a changed state", "", nil, "was changed after the run saved it")
	undo()
	says("too many processes", "import afmq_train.processes as m\nm.Processes.join = lambda self: setattr(self, 'world', 9)\nm.Processes.any = lambda self, value: value", nil, "WORLD_SIZE is 9, and a step has 3 sequences")
	// The limit of a file's size stands for a full disk.
	says("no space", "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))", nil, "recovery.safetensors: File too large")

	// The same through afmq: the state is kept, and the same command continues.
	wrapper := filepath.Join(t.TempDir(), "python")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *torch.distributed.run*) ulimit -f 1;; esac\nexec %s \"$@\"\n", o.Torchrun.Python)
	if err := os.WriteFile(wrapper, []byte(script), 0o777); err != nil {
		t.Fatal(err)
	}
	full := o
	full.Torchrun = &Torchrun{Python: wrapper}
	_, err = runOn(bg, pool, full)
	wantFault(t, err, fault.Output, "recovery.safetensors", "file too large")
	mustRun(t, pool, o)

	diverges := underTorchrun(t, torchOptions(t, b), Torchrun{})
	diverges.Rate, diverges.Clip = 1e30, -1
	_, err = runOn(bg, pool, diverges)
	wantFault(t, err, fault.Unexpected, "training diverged at step", "is kept", "rank-2")
	if _, err := os.Stat(filepath.Join(filepath.Dir(diverges.Out), ".out.afmq", "state", "rank-2", "adapter_model.safetensors")); err != nil {
		t.Error(err)
	}
}

// TestTeacherTopK trains on the largest logits alone: with all of them the loss is that without, and
// with few of them it is at most that, since joining events loses divergence. The second epoch takes
// them from the cache.
func TestTeacherTopK(t *testing.T) {
	needPython(t)
	b, pool := newBench(t), newPool(t, 2)
	o := torchOptions(t, b)
	o.Tokens = 4096 // more than one epoch
	o.BatchTokens = 256
	losses := map[int][]Metric{}
	for _, k := range []int{0, 16, 2048} {
		run := underTorchrun(t, o, Torchrun{})
		run.TeacherTopK = k
		mustRun(t, pool, run)
		m, err := ReadMetrics(run.Out)
		if err != nil {
			t.Fatal(err)
		}
		losses[k] = m
	}
	for i, m := range losses[0][:4] {
		few, all := losses[16][i], losses[2048][i]
		if m.Loss == nil {
			if *m.KL != *few.KL {
				t.Errorf("before training the divergence is %v and %v", *m.KL, *few.KL)
			}
			continue
		}
		if m.Step == 1 && (!(*few.Loss < *m.Loss) || math.Abs(*all.Loss-*m.Loss) > 1e-3**m.Loss) {
			t.Errorf("step 1: loss %v of 16 logits, %v of all stored, %v", *few.Loss, *all.Loss, *m.Loss)
		}
	}
	last := losses[16][len(losses[16])-1]
	first := losses[16][0]
	if last.KL == nil || first.KL == nil || !(*last.KL < *first.KL) {
		t.Errorf("training on 16 logits: divergence %v, then %v", value(first.KL), value(last.KL))
	}
}

// The description of a job is complete and can be read back.
func TestTrainJob(t *testing.T) {
	b := newBench(t)
	o := b.options(t)
	p, err := Prepare(bg, o)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(p.Job)
	if err != nil {
		t.Fatal(err)
	}
	var job TrainJob
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&job); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{job.State, job.Journal, job.Lock, job.Inputs} {
		if _, err := os.Stat(filepath.Join(p.Directory, path)); err != nil {
			t.Error(err)
		}
	}
	if job.Schema != TrainJobSchema || job.Steps != 6 || job.Sequences != 4 || len(job.Students) != 1 || len(job.Students[0].Parts) != 28 || job.Teacher == nil {
		t.Errorf("%+v", job)
	}
	for _, name := range []string{"__main__.py", "model.py", "requirements.txt"} {
		if _, err := os.Stat(filepath.Join(p.Directory, workerPackage, name)); err != nil {
			t.Error(err)
		}
	}
	// The same options without the worker continue.
	if r := mustRun(t, newPool(t, 2), o); r.Made[0].By != "afmq" {
		t.Errorf("%+v", r.Made)
	}
}

// The worker does not compute every family; a job with another is refused by name.
func TestWorkerFamilies(t *testing.T) {
	for _, family := range model.Families() {
		o := Options{Torchrun: &Torchrun{}}
		err := o.checkFamily("dir", &model.Config{ModelType: family})
		if slices.Contains(workerFamilies, family) {
			if err != nil {
				t.Errorf("%s: %v", family, err)
			}
			continue
		}
		if fault.KindOf(err) != fault.Infeasible || !strings.Contains(err.Error(), family) {
			t.Errorf("%s: %v", family, err)
		}
		o.Torchrun = nil
		if err := o.checkFamily("dir", &model.Config{ModelType: family}); err != nil {
			t.Errorf("%s without a worker: %v", family, err)
		}
	}
}

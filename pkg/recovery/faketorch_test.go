package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// The test's own program stands for a Python interpreter with torchrun if this variable is set. The
// value says what it does.
const fakeVariable = "AFMQ_TEST_TORCH"

// fakeTorch prints the versions of packages, or ends as torchrun does.
func fakeTorch(does string) {
	if slices.Contains(os.Args, "-c") {
		found := map[string]string{}
		for _, pin := range pinned() {
			if name := pin[0]; does != "no "+name {
				found[name] = pin[1]
			}
		}
		if does == "another torch" {
			found["torch"] = "9.9.9+cu999"
		}
		json.NewEncoder(os.Stdout).Encode(found)
		return
	}
	say := func(e map[string]any) {
		e["afmq_train"] = 1
		json.NewEncoder(os.Stdout).Encode(e)
	}
	switch does {
	case "stops":
		say(map[string]any{"event": "stopped"})
		return
	case "dies":
		fmt.Fprintln(os.Stderr, "Traceback (most recent call last):\n  File \"x.py\", line 1\nCUDA error: device-side assert triggered")
		fmt.Fprintln(os.Stderr, "E1130 15:00:00.000000 1 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: 1) local_rank: 0 (pid: 2)")
		fmt.Fprintln(os.Stderr, "============================================================\nafmq_train FAILED\n------------------------------------------------------------")
	case "is killed":
		fmt.Fprintln(os.Stderr, "Root Cause (first observed failure):\n[0]:\n  exitcode  : -9 (pid: 7)\n  error_file: <N/A>\n  traceback : Signal 9 (SIGKILL) received by PID 7")
	case "refuses":
		say(map[string]any{"event": "error", "kind": "input", "file": "model.safetensors", "message": "was changed after the job was written"})
		say(map[string]any{"event": "error", "kind": "input", "file": "other", "message": "a later error of another process"})
	case "is out of memory":
		say(map[string]any{"event": "error", "kind": "memory", "message": "OutOfMemoryError: CUDA out of memory"})
	case "waits":
		time.Sleep(time.Minute)
	}
	os.Exit(1)
}

// fake returns the options of a run whose steps the fake makes.
func fake(t *testing.T, b bench, does string) Options {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeVariable, does)
	o := b.options(t)
	o.Torchrun = &Torchrun{Python: exe}
	return o
}

// TestTorchrunFails checks what a user reads when torchrun fails, and that the state is kept, from
// which this process continues.
func TestTorchrunFails(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	for does, c := range map[string]struct {
		kind fault.Kind
		says string
	}{
		"dies":             {fault.Unexpected, "torchrun ended, exit status 1: CUDA error: device-side assert triggered; the last saved state is kept; all that it printed is in "},
		"is killed":        {fault.Unexpected, "torchrun ended, exit status 1: Signal 9 (SIGKILL) received by a worker; "},
		"says nothing":     {fault.Unexpected, "it printed nothing"},
		"refuses":          {fault.Input, "model.safetensors: was changed after the job was written"},
		"is out of memory": {fault.Unexpected, "a worker of torchrun is out of memory: OutOfMemoryError: CUDA out of memory; the state of 0 of 6 steps is kept"},
		"stops":            {fault.Unexpected, "torchrun was stopped after 0 of 6 steps; the same command continues"},
	} {
		t.Run(does, func(t *testing.T) {
			o := fake(t, b, does)
			_, err := runOn(bg, pool, o)
			wantFault(t, err, c.kind, c.says)
			state := filepath.Join(filepath.Dir(o.Out), ".out.afmq", "state", stateFile)
			if _, err := os.Stat(state); err != nil {
				t.Error(err)
			}
			if does != "refuses" {
				return
			}
			o.Torchrun = nil
			mustRun(t, pool, o)
		})
	}
}

// A cancelled run tells torchrun to end.
func TestTorchrunCancelled(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	o := fake(t, b, "waits")
	ctx, cancel := context.WithCancel(bg)
	o.Progress = &stopAtStage{progress.Silent, cancel}
	began := time.Now()
	if _, err := runOn(ctx, pool, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("it took %v", d)
	}
}

// stopAtStage cancels a run once training begins.
type stopAtStage struct {
	progress.Reporter
	cancel func()
}

func (s *stopAtStage) Stage(st progress.Stage) {
	if st.Name == StageTrain {
		time.AfterFunc(300*time.Millisecond, s.cancel)
	}
}

// TestTorchrunOptions checks what is refused before anything is read or written.
func TestTorchrunOptions(t *testing.T) {
	b, pool := newBench(t), newPool(t, 2)
	const hint = "pip install numpy==2.4.6 safetensors==0.8.0 torch==2.15.0, then set AFMQ_PYTHON=train/bin/python"
	for name, c := range map[string]struct {
		does   string
		change func(o *Options)
		kind   fault.Kind
		says   string
	}{
		"no interpreter":  {"", func(o *Options) { o.Torchrun.Python = "no-python" }, fault.Input, "no-python: is no Python interpreter: executable file not found in $PATH"},
		"no torch":        {"no torch", nil, fault.Input, "lacks the package torch 2.15.0, which --launcher torchrun needs"},
		"no safetensors":  {"no safetensors", nil, fault.Input, "lacks the package safetensors 0.8.0"},
		"processes":       {"dies", func(o *Options) { o.Torchrun.Processes = 5 }, fault.Usage, "5 processes cannot share a step of 64 tokens, which has 4 sequences of 16"},
		"parallel":        {"dies", func(o *Options) { o.Torchrun.Parallel = "tp" }, fault.Usage, `unknown division "tp"`},
		"arithmetic":      {"dies", func(o *Options) { o.Compute = compute.I16 }, fault.Usage, "PyTorch computes in f32 or bf16, not in i16"},
		"top, no worker":  {"dies", func(o *Options) { o.Torchrun, o.TeacherTopK = nil, 4 }, fault.Usage, "need the launcher torchrun"},
		"top of nothing":  {"dies", func(o *Options) { o.Loss, o.TeacherTopK = LossCE, 4 }, fault.Usage, "no meaning with loss ce"},
		"top of too many": {"dies", func(o *Options) { o.TeacherTopK = 4000 }, fault.Usage, "whose vocabulary has 2048 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			o := fake(t, b, c.does)
			if c.change != nil {
				c.change(&o)
			}
			_, err := runOn(bg, pool, o)
			wantFault(t, err, c.kind, c.says)
			var fe *fault.Error
			if c.kind == fault.Input && (!errors.As(err, &fe) || !strings.Contains(fe.Hint, hint)) {
				t.Errorf("the hint is %q", fe.Hint)
			}
			wantNothing(t, o.Out)
		})
	}
}

func TestTorchrunCommand(t *testing.T) {
	for _, c := range []struct {
		w    Torchrun
		want string
	}{
		{Torchrun{}, "python3 -m torch.distributed.run --standalone --nproc-per-node 1 -m afmq_train job.json"},
		{Torchrun{Python: "p", Processes: 8, Args: []string{"--max-restarts=2"}}, "p -m torch.distributed.run --standalone --nproc-per-node 8 --max-restarts=2 -m afmq_train job.json"},
		{Torchrun{Processes: 2, Args: []string{"--nnodes=2", "--rdzv_endpoint=h:1"}}, "python3 -m torch.distributed.run --nproc-per-node 2 --nnodes=2 --rdzv_endpoint=h:1 -m afmq_train job.json"},
	} {
		if got := strings.Join(c.w.command("job.json"), " "); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

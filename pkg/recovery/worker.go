package recovery

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

const (
	// stopTime is how long torchrun has to end after it was told to: it gives its workers 30 s.
	stopTime = 45 * time.Second
	logFile  = "stderr.log" // what torchrun and the workers wrote to standard error
)

// workerRefused is an error of a worker that would discard the saved state if it were this
// process's own: a file that cannot be used, or options that do not fit.
type workerRefused struct{ error }

// event is a line of a worker on standard output. The kind of an error is input, output, usage,
// diverged, memory or unexpected.
type event struct {
	Version int     `json:"afmq_train"` // 1; 0 in a line that is no event
	Event   string  `json:"event"`      // began, step, evaluated, saved, done, stopped or error
	Step    int64   `json:"step"`
	Loss    float64 `json:"loss"`
	Value   float64 `json:"value"` // of the validation text

	Kind    string `json:"kind"`
	File    string `json:"file"`
	Message string `json:"message"`
	Errno   int    `json:"errno"` // of the system, where a file cannot be written
	Rank    int    `json:"rank"`  // of the adapter that diverged
}

// torchrun writes the job, has torchrun make the remaining steps, and reads the state that it saved.
func (r *run) torchrun(ctx context.Context, t *trainer) error {
	job, err := r.writeJob(ctx, t)
	if err != nil {
		return err
	}
	p := t.opts.Progress
	p.Stage(progress.Stage{Name: StageTrain, Work: t.trainWork(0), Done: t.trainWork(0) - t.trainWork(t.Step)})
	defer p.Done()
	t.dir.ReleaseJournal()
	failure, err := t.runWorker(ctx, job)
	if _, e := t.restore(); e != nil {
		return &workerRefused{e}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failure != nil:
		return t.workerError(failure, job)
	case err != nil:
		return err
	case t.Step < t.steps:
		return fmt.Errorf("torchrun was stopped after %s; the same command continues", t.stepCount())
	}
	return nil
}

// runWorker runs torchrun and returns the first error that a worker reported, or that of the
// processes.
func (t *trainer) runWorker(ctx context.Context, job string) (failure *event, err error) {
	dir := filepath.Dir(job)
	args := append(t.opts.Torchrun.command(job), "--afmq")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	// PYTHONSAFEPATH: no module of the caller's directory is imported instead of another.
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "PYTHONSAFEPATH=1", "PYTHONDONTWRITEBYTECODE=1")
	cmd.ExtraFiles = []*os.File{t.dir.LockFile()} // the state stays locked until torchrun ends
	ownGroup(cmd)
	cmd.Cancel = func() error { return stopWorker(cmd.Process) }
	cmd.WaitDelay = stopTime
	messages := &tail{}
	if messages.file, err = os.Create(filepath.Join(dir, logFile)); err != nil {
		return nil, fault.Writing(filepath.Join(dir, logFile), err)
	}
	defer messages.file.Close()
	cmd.Stderr = messages
	in, err := cmd.StdinPipe() // its end tells the workers that this process is gone
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("torchrun cannot be started: %w", err)
	}
	failure = t.follow(out)
	err = cmd.Wait()
	if err != nil {
		said := cmp.Or(messages.last(), "it printed nothing")
		err = fmt.Errorf("torchrun ended, %v: %s; the last saved state is kept; all that it printed is in %s", cmd.ProcessState, said, messages.file.Name())
	}
	return failure, err
}

// follow reports the events of a worker until its output ends, and returns the first error.
func (t *trainer) follow(out io.Reader) (failure *event) {
	p, at, loss := t.opts.Progress, t.Step, 0.0
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Version == 0 {
			continue
		}
		switch e.Event {
		case "step":
			p.Advance(t.trainWork(at) - t.trainWork(e.Step))
			at, loss = e.Step, e.Loss
		case "evaluated":
			t.validation = e.Value
		case "saved":
			p.Saved(fmt.Sprintf("%d of %d steps in %s", e.Step, t.steps, t.dir.State()))
		case "error":
			if failure == nil {
				failure = &e
			}
		}
		if e.Event == "step" || e.Event == "evaluated" {
			p.Status(fmt.Sprintf("step %d of %d, loss %.5f, validation %.5f", at, t.steps, loss, t.validation))
		}
	}
	io.Copy(io.Discard, out) // after a line that is too long
	return failure
}

// workerError returns the error that a worker reported.
func (t *trainer) workerError(e *event, job string) error {
	log := filepath.Join(filepath.Dir(job), logFile)
	switch e.Kind {
	case "input":
		return &workerRefused{&fault.Error{Kind: fault.Input, File: e.File, Msg: e.Message}}
	case "usage":
		return &workerRefused{fault.Usagef("%s", e.Message)}
	case "output":
		if e.Errno != 0 {
			return fault.Writing(e.File, syscall.Errno(e.Errno))
		}
		return &fault.Error{Kind: fault.Output, File: e.File, Msg: e.Message}
	case "diverged":
		for _, s := range t.students {
			if s.state().rank == e.Rank {
				return t.divergence(e.Step, s, e.Message)
			}
		}
	case "memory":
		return (&fault.Error{Msg: "a worker of torchrun is out of memory: " + e.Message + "; the state of " + t.stepCount() + " is kept"}).
			WithHint("lower --micro-batch, or give --recompute, --packed, or --fsdp with more processes")
	}
	return errors.New("a worker of torchrun failed: " + e.Message + "; the state of " + t.stepCount() + " is kept; all that it printed is in " + log)
}

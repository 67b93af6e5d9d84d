//go:build linux || darwin

package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// rounds returns how often to disturb a job, and what to draw the moments from.
func rounds(t *testing.T, usual int) (int, *rand.Rand) {
	t.Helper()
	if s := os.Getenv(crashRounds); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("%s=%q is not a number of rounds", crashRounds, s)
		}
		usual = n
	}
	return usual, rand.New(rand.NewPCG(1, 2))
}

// undisturbed is what a job does when nobody disturbs it.
type undisturbed struct {
	whole   map[string]string // what it makes
	takes   time.Duration
	changes int // of the files beside the target while it runs, as far as they are seen
}

// references holds what reference found, by the name of the job.
var (
	references      = map[string]undisturbed{}
	referencesMutex sync.Mutex
)

func reference(t *testing.T, dir string, j job) undisturbed {
	t.Helper()
	referencesMutex.Lock()
	defer referencesMutex.Unlock()
	if u, ok := references[j.name]; ok {
		return u
	}
	parent := t.TempDir()
	target := filepath.Join(parent, "t")
	began, changes := time.Now(), 0
	wait, ended := start(program(t.Context(), dir, j.to(target)...))
	watch(parent, ended, func() bool { changes++; return true })
	if res := wait(); res.code != 0 {
		t.Fatalf("exit code %d: %s", res.code, res.stderr)
	}
	u := undisturbed{snapshot(t, target), time.Since(began), changes}
	references[j.name] = u
	return u
}

// start is collect with a channel that is closed when the command has ended.
func start(c *exec.Cmd) (wait func() result, ended <-chan struct{}) {
	finish := collect(c)
	over, res := make(chan struct{}), make(chan result, 1)
	go func() {
		r := finish()
		close(over)
		res <- r
	}()
	return func() result { return <-res }, over
}

// watch calls changed whenever the files below a directory are seen to have changed, until
// that returns false or the channel is closed.
func watch(parent string, ended <-chan struct{}, changed func() bool) {
	for before := look(parent); ; {
		select {
		case <-ended:
			return
		case <-time.After(50 * time.Microsecond):
		}
		if now := look(parent); now != before {
			if before = now; !changed() {
				return
			}
		}
	}
}

// disturbed runs a job and sends it the signal at a random moment: after a time, or once
// the files beside the target have changed so many times, which meets the short moments
// around a rename more often.
func disturbed(t *testing.T, dir string, args []string, parent string, r *rand.Rand, u undisturbed, sig syscall.Signal) result {
	t.Helper()
	c := program(t.Context(), dir, args...)
	wait, ended := start(c)
	if r.IntN(2) == 0 {
		select {
		case <-time.After(time.Duration(r.Int64N(int64(u.takes)))):
			c.Process.Signal(sig)
		case <-ended:
		}
		return wait()
	}
	left := 1 + r.IntN(u.changes)
	watch(parent, ended, func() bool {
		if left--; left > 0 {
			return true
		}
		c.Process.Signal(sig)
		return false
	})
	return wait()
}

// look describes the files below a directory by name and size.
func look(dir string) string {
	var b strings.Builder
	filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil {
			if info, err := e.Info(); err == nil {
				fmt.Fprintln(&b, p, info.Size())
			}
		}
		return nil
	})
	return b.String()
}

// wholeOrAbsent checks what a run that was stopped left: the whole target or none, and
// no directory that verify passes but is not the whole artifact. It reports whether the
// target is there.
func wholeOrAbsent(t *testing.T, parent string, whole map[string]string) bool {
	t.Helper()
	target := filepath.Join(parent, "t")
	staged := filepath.Join(parent, ".t.afmq", "out")
	if got := snapshot(t, staged); sameFiles(got, whole) != "" && verifies(staged) {
		t.Fatalf("verify passes half an artifact")
	}
	if _, err := os.Lstat(target); err != nil {
		if verifies(target) {
			t.Fatal("verify passes what is not there")
		}
		return false
	}
	if d := sameFiles(snapshot(t, target), whole); d != "" {
		t.Fatalf("the target is there and not whole: %s", d)
	}
	return true
}

// A job that is killed at any moment, again and again, leaves its target absent or
// whole, and the same command ends with the bytes of a run that nobody disturbed, and
// with nothing beside them.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	for i, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			u := reference(t, dir, j)
			n, r := rounds(t, []int{4, 2, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2}[i])
			parent, killed := t.TempDir(), 0
			for range n {
				res := disturbed(t, dir, j.to(filepath.Join(parent, "t")), parent, r, u, syscall.SIGKILL)
				switch {
				case res.code == -1:
					killed++
				case res.code != 0:
					t.Fatalf("exit code %d: %s", res.code, res.stderr)
				}
				if wholeOrAbsent(t, parent, u.whole) {
					parent = t.TempDir() // it got through: begin again
				}
			}
			again(t, dir, j, parent, u.whole)
			t.Logf("killed %d times in runs of %v and %d changes", killed, u.takes.Round(time.Millisecond), u.changes)
		})
	}
}

// again gives the command once more, undisturbed.
func again(t *testing.T, dir string, j job, parent string, whole map[string]string) {
	t.Helper()
	target := filepath.Join(parent, "t")
	mustExecute(t, dir, j.to(target)...)
	if d := sameFiles(snapshot(t, target), whole); d != "" {
		t.Errorf("other bytes than those of an undisturbed run: %s", d)
	}
	onlyHolds(t, parent, "t")
}

// Scores that an interrupted run saved are of the weights that it read: the same command
// on other weights in the same shapes does not mix the two.
func TestOtherWeights(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	for _, j := range jobs {
		if j.name != "sensitivity" && j.name != "compensated" {
			continue
		}
		parent := t.TempDir()
		model := filepath.Join(parent, "model")
		copyTree(t, filepath.Join(dir, "model"), model)
		args := j.to(filepath.Join(parent, "t"))
		args[slices.Index(args, "model")] = model
		c := program(t.Context(), dir, args...)
		wait, ended := start(c)
		watch(parent, ended, func() bool {
			info, err := os.Stat(filepath.Join(parent, ".t.afmq", "journal.jsonl"))
			if err != nil || info.Size() == 0 {
				return true
			}
			c.Process.Kill()
			return false
		})
		if wait(); c.ProcessState.ExitCode() != -1 {
			t.Fatalf("%s: was not killed", j.name)
		}
		path := filepath.Join(model, "model.safetensors")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-200000] ^= 1
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		res := execute(t, dir, args...)
		if res.code != 3 || !strings.Contains(res.stderr, "the checkpoint has other content") {
			t.Errorf("%s: exit code %d: %s", j.name, res.code, res.stderr)
		}
		oneLine(t, res)
		mustExecute(t, dir, append(args, "--restart")...)
	}
}

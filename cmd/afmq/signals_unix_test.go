//go:build linux || darwin

package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"afmq/pkg/fault"
)

// SIGTERM and SIGINT end a run with their exit codes, and the same command goes on.
func TestStopped(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			u := reference(t, dir, j)
			n, r := rounds(t, 2)
			parent, stopped := t.TempDir(), 0
			for i := range n {
				sig := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}[i%2]
				res := disturbed(t, dir, j.to(filepath.Join(parent, "t")), parent, r, u, sig)
				switch res.code {
				case 128 + int(sig):
					stopped++
					oneLine(t, res)
					if !strings.Contains(res.stderr, "stopped by "+sig.String()) {
						t.Errorf("says %q", res.stderr)
					}
				case -1: // it came before the program listened
				case 0:
				default:
					t.Fatalf("exit code %d: %s", res.code, res.stderr)
				}
				if wholeOrAbsent(t, parent, u.whole) {
					parent = t.TempDir()
				}
			}
			again(t, dir, j, parent, u.whole)
			t.Logf("stopped %d times", stopped)
		})
	}
}

// A run that gets many signals, none of which is to end it, takes no system call that one
// of them interrupts for a failure, and makes the same bytes.
func TestManySignals(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			u := reference(t, dir, j)
			parent, sent := t.TempDir(), 0
			target := filepath.Join(parent, "t")
			c := program(t.Context(), dir, j.to(target)...)
			wait, ended := start(c)
			r := rand.New(rand.NewPCG(3, 4))
			for over := false; !over; {
				sig := []syscall.Signal{syscall.SIGURG, syscall.SIGWINCH, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGSTOP}[r.IntN(5)]
				if c.Process.Signal(sig) == nil {
					sent++
				}
				if sig == syscall.SIGSTOP {
					time.Sleep(time.Millisecond)
					c.Process.Signal(syscall.SIGCONT)
				}
				select {
				case <-ended:
					over = true
				case <-time.After(200 * time.Microsecond):
				}
			}
			if res := wait(); res.code != 0 || res.stderr != "" {
				t.Fatalf("exit code %d: %s", res.code, res.stderr)
			}
			if d := sameFiles(snapshot(t, target), u.whole); d != "" {
				t.Errorf("other bytes: %s", d)
			}
			onlyHolds(t, parent, "t")
			t.Logf("%d signals", sent)
		})
	}
}

// brokenPipe returns a pipe that nobody reads.
func brokenPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close() })
	return w
}

// Where nobody reads standard output any more, a command whose result is a file has made
// it whole, says that it could not print, and ends with the code for that.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	for _, j := range jobs {
		for _, form := range []string{"text", "json"} {
			if form == "json" && j.name != "plan" && j.name != "dequantize" {
				continue // the long ones once
			}
			t.Run(j.name+"/"+form, func(t *testing.T) {
				parent := t.TempDir()
				args := j.to(filepath.Join(parent, "t"))
				if form == "json" {
					args = append(args, "--json")
				}
				c := program(t.Context(), dir, args...)
				c.Stdout = brokenPipe(t)
				res := collect(c)()
				if res.code != exitOf(fault.Output) || !strings.Contains(res.stderr, "standard output: cannot be written") {
					t.Errorf("exit code %d (%v): %s", res.code, res.err, res.stderr)
				}
				oneLine(t, res)
				onlyHolds(t, parent, "t")
				if j.args[0] == "quantize" && !verifies(filepath.Join(parent, "t")) {
					t.Error("the artifact is not whole")
				}
			})
		}
	}
	for _, args := range [][]string{
		{"inspect", "artifact"}, {"verify", "artifact"}, {"version"}, {"help"}, {"help", "exit-codes"}, {"quantize", "--help"},
		{"eval-perplexity", "model", "--data", "text.jsonl", "--ctx", "64"},
		{"generate", "model", "--prompt", "The old man", "--max-tokens", "4"},
		{"generate", "model", "--prompt", "The old man", "--max-tokens", "4", "--json"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			c := program(t.Context(), dir, args...)
			c.Stdout = brokenPipe(t)
			if res := collect(c)(); res.code != 6 {
				t.Errorf("exit code %d (%v): %s", res.code, res.err, res.stderr)
			}
		})
	}
}

// A standard error that nobody reads changes nothing: not the result, not the exit code.
func TestNobodyHears(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	for _, tc := range []struct {
		args []string
		code int
	}{
		{[]string{"quantize", "model", "--out", "q"}, 0},
		{[]string{"quantize", "nowhere", "--out", "x"}, 3},
		{[]string{"quantize", "nowhere", "--out", "x", "--json"}, 3},
		{[]string{"quantize"}, 2},
		{[]string{"quantize", "model", "--out", "q"}, 6},
	} {
		c := program(t.Context(), dir, tc.args...)
		c.Stderr = brokenPipe(t)
		res := collect(c)()
		if res.code != tc.code {
			t.Errorf("%v: exit code %d (%v)", tc.args, res.code, res.err)
		}
	}
	if !verifies(filepath.Join(dir, "q")) {
		t.Error("the artifact is not whole")
	}
}

// Streams that are closed from the start are as if they led nowhere: no file of the run
// gets their numbers, and with them what would be printed.
func TestClosedStreams(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		u := reference(t, dir, j)
		parent := t.TempDir()
		target := filepath.Join(parent, "t")
		c := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `exec "$0" "$@" <&- >&- 2>&-`, self}, j.to(target)...)...)
		c.Dir, c.Env = dir, append(os.Environ(), asProgram+"=1")
		if res := collect(c)(); res.code != 0 {
			t.Errorf("%s: exit code %d", j.name, res.code)
		}
		if d := sameFiles(snapshot(t, target), u.whole); d != "" {
			t.Errorf("%s: other bytes: %s", j.name, d)
		}
		onlyHolds(t, parent, "t")
	}
}

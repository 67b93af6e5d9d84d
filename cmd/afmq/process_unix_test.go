//go:build linux || darwin

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/internal/demo"
)

// program returns the program with these arguments, to be run in dir.
func program(ctx context.Context, dir string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.CommandContext(ctx, self, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), asProgram+"=1")
	return c
}

// result is how a run of the program ended.
type result struct {
	code           int // -1 for a signal
	err            error
	stdout, stderr string
}

// collect starts a command, keeps what it prints and returns how to wait for its end.
func collect(c *exec.Cmd) func() result {
	var stdout, stderr bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &stdout
	}
	if c.Stderr == nil {
		c.Stderr = &stderr
	}
	if err := c.Start(); err != nil {
		panic(err)
	}
	return func() result {
		err := c.Wait()
		return result{c.ProcessState.ExitCode(), err, stdout.String(), stderr.String()}
	}
}

// execute runs the program to its end.
func execute(t *testing.T, dir string, args ...string) result {
	t.Helper()
	r := collect(program(t.Context(), dir, args...))()
	if strings.Contains(r.stderr, "panic") || strings.Contains(r.stderr, "goroutine ") {
		t.Fatalf("%v: %s", args, r.stderr)
	}
	return r
}

// mustExecute is execute for a command that succeeds.
func mustExecute(t *testing.T, dir string, args ...string) result {
	t.Helper()
	r := execute(t, dir, args...)
	if r.code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, r.code, r.stderr)
	}
	return r
}

// oneLine checks what a person sees of an error: one line, and perhaps a hint.
func oneLine(t *testing.T, r result) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	if len(lines) > 2 || !strings.HasPrefix(lines[0], "afmq: ") || len(lines) == 2 && !strings.HasPrefix(lines[1], "hint: ") {
		t.Errorf("no single line: %q", r.stderr)
	}
}

// job is a command that writes a file or a directory.
type job struct {
	name string
	args []string // TARGET stands for where
}

func (j job) to(target string) []string {
	out := slices.Clone(j.args)
	out[slices.Index(out, "TARGET")] = target
	return append(out, "--quiet", "--threads", "2")
}

// workplace returns a directory with the input of jobs: the demo model, an artifact of it,
// scores and a text. It is made once, and tests leave it as it is.
func workplace(t *testing.T) string {
	t.Helper()
	sharedMutex.Lock()
	defer sharedMutex.Unlock()
	if shared != "" {
		return shared
	}
	dir, err := os.MkdirTemp("", "afmq-test-")
	if err != nil {
		t.Fatal(err)
	}
	shared = dir
	if err := demo.Extract(filepath.Join(dir, "model")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "text.jsonl"), trainingText(), 0o666); err != nil {
		t.Fatal(err)
	}
	mustExecute(t, dir, "quantize", "model", "--out", "artifact", "--bits", "2")
	mustExecute(t, dir, "sensitivity", "model", "--method", "weight", "--out", "scores.json")
	return dir
}

// jobs are the commands that write, on what workplace makes.
var jobs = []job{
	{"quantize", []string{"quantize", "model", "--out", "TARGET"}},
	{"compensated", []string{"quantize", "model", "--out", "TARGET", "--bpw", "3.3", "--calib", "text.jsonl", "--seq-len", "32", "--tokens", "64"}},
	{"recover", []string{"recover", "artifact", "--teacher", "model", "--data", "text.jsonl", "--out", "TARGET", "--rank", "2,4", "--tokens", "512",
		"--seq-len", "16", "--batch-tokens", "64", "--validation-tokens", "100", "--init-tokens", "64"}},
	{"tune", []string{"tune", "artifact", "--teacher", "model", "--data", "text.jsonl", "--out", "TARGET", "--tokens", "256",
		"--what", "tables,scales,norms", "--seq-len", "16", "--batch-tokens", "64", "--validation-tokens", "100"}},
	{"sensitivity", []string{"sensitivity", "model", "--method", "kl", "--calib", "text.jsonl", "--seq-len", "32", "--tokens", "64", "--out", "TARGET"}},
	{"dequantize", []string{"dequantize", "artifact", "--out", "TARGET"}},
	{"export", []string{"export", "artifact", "--to", "coreml", "--out", "TARGET"}},
	{"export-coreai", []string{"export", "artifact", "--to", "coreai", "--skip-compile", "--name", "m", "--out", "TARGET"}},
	{"export-gguf", []string{"export", "artifact", "--to", "gguf", "--as", "f16", "--name", "m", "--out", "TARGET"}},
	{"export-mlx", []string{"export", "artifact", "--to", "mlx", "--as", "f16", "--out", "TARGET"}},
	{"export-compressed-tensors", []string{"export", "artifact", "--to", "compressed-tensors", "--as", "bf16", "--out", "TARGET"}},
	{"plan", []string{"plan", "scores.json", "--bpw", "3.3", "--out", "TARGET"}},
}

// snapshot returns the files under path by name, or the file itself under ".".
func snapshot(t *testing.T, path string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(path, p)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		out[name] = string(data)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

// sameFiles says in which files two snapshots differ, "" for none.
func sameFiles(got, want map[string]string) string {
	var differ []string
	for name, data := range want {
		if other, ok := got[name]; !ok || other != data {
			differ = append(differ, name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			differ = append(differ, name)
		}
	}
	slices.Sort(differ)
	return strings.Join(differ, ", ")
}

// onlyHolds checks that a directory has these entries and nothing beside them.
func onlyHolds(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, expected %q", dir, got, want)
	}
}

// verifies reports whether `afmq verify` passes what is at path. A process runs one command at a time.
func verifies(path string) bool {
	sharedMutex.Lock()
	defer sharedMutex.Unlock()
	return run([]string{"verify", path, "--quiet"}, io.Discard, io.Discard) == 0
}

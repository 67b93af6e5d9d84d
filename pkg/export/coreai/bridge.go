package coreai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"afmq/internal/disk"
	"afmq/pkg/fault"
	bridgefiles "afmq/scripts/coreai"
)

// PythonVariable is the environment variable that names the Python interpreter for the command.
const PythonVariable = "AFMQ_PYTHON"

// requirements is the file that pins the packages that the bridge needs.
const requirements = "requirements.txt"

// pinned returns the version of a package in requirements.txt.
func pinned(name string) string {
	data, err := bridgefiles.Files.ReadFile(requirements)
	if err != nil {
		panic(err) // it is embedded
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `==(\S+)`).FindSubmatch(data)
	return string(m[1])
}

// writeBridge writes the program and its requirements to dir.
func writeBridge(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fault.Writing(dir, err)
	}
	return fs.WalkDir(bridgefiles.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := bridgefiles.Files.ReadFile(name)
		if err != nil {
			return err
		}
		return disk.WriteFile(filepath.Join(dir, name), data)
	})
}

// bridge is a running bridge.py.
type bridge struct {
	python   string
	target   string // the bundle
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Reader
	messages *tail // what it printed to standard error
	versions Compiler
	stopped  bool
}

// startBridge starts the program in dir and checks the versions of the packages. target is the
// bundle, for messages; temp is the directory for temporary files.
func startBridge(ctx context.Context, python, dir, temp, target string) (*bridge, error) {
	path, err := exec.LookPath(python)
	if err != nil {
		var lookup *exec.Error
		if errors.As(err, &lookup) {
			err = lookup.Err
		}
		var of *fs.PathError
		if errors.As(err, &of) {
			err = of.Err
		}
		return nil, withWayOut(fault.Inputf(python, "is no Python interpreter: %v; the compiler of Core AI is a Python package", err))
	}
	// -I: neither the caller's PYTHON variables nor its directory change what is run.
	cmd := exec.CommandContext(ctx, path, "-I", "-B", filepath.Join(dir, "bridge.py"))
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	cmd.WaitDelay = time.Second
	b := &bridge{python: path, target: target, cmd: cmd, messages: &tail{}}
	cmd.Stderr = b.messages
	if b.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, withWayOut(fault.Inputf(path, "cannot be run: %v", err))
	}
	b.out = bufio.NewReader(out)
	if err := b.hello(ctx); err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

// hello reads the versions and checks them.
func (b *bridge) hello(ctx context.Context) error {
	line, err := b.out.ReadBytes('\n')
	var first struct {
		Versions Compiler `json:"versions"`
	}
	if err != nil || json.Unmarshal(line, &first) != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.stop()
		return withWayOut(fault.Inputf(b.python, "does not run the bridge to Core AI: %s", b.messages.last()))
	}
	b.versions = first.Versions
	want, got := pinned("coreai-core"), b.versions.CoreAI
	switch {
	case got == "":
		return withWayOut(fault.Inputf(b.python, "lacks the package coreai-core %s", want))
	case got != want:
		return withWayOut(fault.Inputf(b.python, "has coreai-core %s; the program is written for %s", got, want))
	case b.versions.NumPy == "":
		return withWayOut(fault.Inputf(b.python, "lacks the package numpy %s", pinned("numpy")))
	}
	return nil
}

// withWayOut adds how to get the interpreter that the bridge needs.
func withWayOut(err *fault.Error) error {
	return err.WithHint("python3.11 -m venv coreai && coreai/bin/pip install coreai-core==%s numpy==%s, then set %s=coreai/bin/python; Linux on x86-64 or macOS, Python 3.11 to 3.14. --skip-compile writes everything but the asset", pinned("coreai-core"), pinned("numpy"), PythonVariable)
}

// stop ends the program. A second call does nothing.
func (b *bridge) stop() {
	if b.stopped {
		return
	}
	b.stopped = true
	b.in.Close()
	done := make(chan struct{})
	go func() {
		b.cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		b.cmd.Process.Kill()
		<-done
	}
}

// request is one line to the bridge.
type request struct {
	Do        string  `json:"do"`
	Job       string  `json:"job,omitempty"`
	Constants string  `json:"constants,omitempty"`
	Asset     string  `json:"asset,omitempty"`
	Precision string  `json:"precision,omitempty"`
	Free      bool    `json:"free,omitempty"` // without constraints on the buffers of a static program
	Function  string  `json:"function"`
	Adapter   string  `json:"adapter,omitempty"`
	IDs       []int32 `json:"ids,omitempty"`
	Position  int     `json:"position"`

	Context int `json:"context,omitempty"` // length of the caches; 0 for the longest of a static program

	// Of a static program, which functions are called.
	Queries int  `json:"queries,omitempty"` // tokens in a call; 0 for 8
	Prefill bool `json:"prefill,omitempty"` // prompt_opt, which returns no logits
}

// answer is one line of the bridge.
type answer struct {
	OK           bool     `json:"ok"`
	Error        string   `json:"error"`
	Errno        int      `json:"errno"` // of the system, where a disk cannot be written
	Functions    []string `json:"functions"`
	Reproducible bool     `json:"reproducible"`
	Bytes        int      `json:"bytes"`
}

// ask sends a request and returns its answer.
func (b *bridge) ask(ctx context.Context, r request) (*answer, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	_, err = b.in.Write(append(data, '\n'))
	var line []byte
	if err == nil {
		line, err = b.out.ReadBytes('\n')
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, b.died(r.Do)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, fmt.Errorf("the bridge to Core AI answered %.80q", line)
	}
	if !a.OK {
		if a.Errno != 0 {
			return nil, fault.Writing(b.target, syscall.Errno(a.Errno))
		}
		return nil, fmt.Errorf("the bridge to Core AI cannot %s the program: %s", r.Do, a.Error)
	}
	return &a, nil
}

// died returns the error of a program that ended while it was asked to do something. The
// compiler ends it where the disk is full, by a message of LLVM's or a signal.
func (b *bridge) died(do string) error {
	b.stop()
	if strings.Contains(b.messages.last(), "No space left on device") {
		return fault.Writing(b.target, syscall.ENOSPC)
	}
	if strings.HasPrefix(b.cmd.ProcessState.String(), "signal: bus error") { // the space is free again, as its files were unlinked
		return fault.Writing(b.target, fmt.Errorf("bus error in the runtime of Core AI, as where a mapped file meets the end of the disk: %w", syscall.ENOSPC))
	}
	return fmt.Errorf("the bridge to Core AI (%s) ended during %q, %v: %s", b.python, do, b.cmd.ProcessState, b.messages.last())
}

// logits runs a function and returns the logits of its tokens, none with Prefill.
func (b *bridge) logits(ctx context.Context, r request, vocab int) ([]float32, error) {
	r.Do = "run"
	a, err := b.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	if want := 4 * len(r.IDs) * vocab; a.Bytes != want && !(r.Prefill && a.Bytes == 0) {
		return nil, fmt.Errorf("%s returned %d bytes of logits for %d tokens of %d", r.Function, a.Bytes, len(r.IDs), vocab)
	}
	data := make([]byte, a.Bytes)
	if _, err := io.ReadFull(b.out, data); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, b.died(r.Do)
	}
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out, nil
}

// tail keeps the end of what is written to it.
type tail struct{ data []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if n := len(t.data) - 1<<14; n > 0 {
		t.data = t.data[n:]
	}
	return len(p), nil
}

// last returns the last line, of a long one the end.
func (t *tail) last() string {
	lines := bytes.Split(bytes.TrimSpace(t.data), []byte("\n"))
	line := lines[len(lines)-1]
	line = line[max(0, len(line)-300):]
	if s := strings.ToValidUTF8(string(line), "\ufffd"); s != "" {
		return s
	}
	return "it printed nothing"
}

package recovery

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"afmq/internal/disk"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	worker "afmq/scripts/afmq_train"
)

// PythonVariable is the environment variable that names the Python interpreter for the command.
const PythonVariable = "AFMQ_PYTHON"

// workerPackage is the name of the Python package.
const workerPackage = "afmq_train"

// pinned returns the packages that the worker needs and their versions, in the order of
// requirements.txt.
func pinned() (packages [][2]string) {
	data, err := worker.Files.ReadFile("requirements.txt")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z]+)==(\S+)$`).FindAllSubmatch(data, -1) {
		packages = append(packages, [2]string{string(m[1]), string(m[2])})
	}
	return packages
}

// writeWorker writes the Python package to dir.
func writeWorker(dir string) error {
	return fs.WalkDir(worker.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := worker.Files.ReadFile(name)
		if err != nil {
			return err
		}
		return disk.WriteFile(filepath.Join(dir, name), data)
	})
}

// versionsProgram prints the versions of the packages that its arguments name, as JSON.
const versionsProgram = `import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))`

// checkPython checks that an interpreter has the packages that the worker needs. Other versions
// than the pinned ones are a notice.
func checkPython(ctx context.Context, python string, p progress.Reporter) error {
	python = cmp.Or(python, "python3")
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
		return withWayOut(fault.Inputf(python, "is no Python interpreter: %v; torchrun is a program of PyTorch's Python package", err))
	}
	args := []string{"-I", "-c", versionsProgram}
	for _, pin := range pinned() {
		args = append(args, pin[0])
	}
	cmd := exec.CommandContext(ctx, path, args...)
	messages := &tail{}
	cmd.Stderr = messages
	out, err := cmd.Output()
	found := map[string]string{}
	if err == nil {
		err = json.Unmarshal(out, &found)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return withWayOut(fault.Inputf(path, "does not run as a Python interpreter: %s", cmp.Or(messages.last(), err.Error())))
	}
	for _, pin := range pinned() {
		name, want, got := pin[0], pin[1], found[pin[0]]
		if got == "" {
			return withWayOut(fault.Inputf(path, "lacks the package %s %s, which --launcher torchrun needs", name, want))
		}
		if bare, _, _ := strings.Cut(got, "+"); bare != want { // 2.15.0+cu130 is a build of 2.15.0
			p.Notice(fmt.Sprintf("%s has %s %s; the worker is tested with %s", path, name, got, want))
		}
	}
	return nil
}

// withWayOut adds how to get the interpreter that the worker needs.
func withWayOut(err *fault.Error) error {
	var pins []string
	for _, p := range pinned() {
		pins = append(pins, p[0]+"=="+p[1])
	}
	return err.WithHint("python3 -m venv train && train/bin/pip install %s, then set %s=train/bin/python; Python 3.11 or later", strings.Join(pins, " "), PythonVariable)
}

// tail keeps the end of what is written to it, and copies all of it to a file.
type tail struct {
	data []byte
	file *os.File // nil for none
}

func (t *tail) Write(p []byte) (int, error) {
	if t.file != nil {
		t.file.Write(p) // a full disk loses the file, not the run
	}
	t.data = append(t.data, p...)
	if n := len(t.data) - 1<<16; n > 0 {
		t.data = t.data[n:]
	}
	return len(p), nil
}

// decoration matches what torchrun logs itself: its records, its table of failures, and the stack
// of its own exception, which come after what the workers wrote.
var decoration = regexp.MustCompile(`^(\s|[EWIF]\d{4} |=+$|-+$|Traceback |<NO_OTHER_FAILURES>|Root Cause|Failures:|\[\d+\]:|torch\.distributed\.elastic|\S+ FAILED$|raise |return )`)

// signalled matches the line of torchrun's table about a worker that a signal ended.
var signalled = regexp.MustCompile(`(?m)^ *traceback *: (Signal \d+ \(\w+\)) received by PID`)

// last returns the last line that the workers wrote, of a long one the end; of workers that wrote
// none the signal that ended one. It is "" if there is neither.
func (t *tail) last() string {
	if m := signalled.FindSubmatch(t.data); m != nil {
		return string(m[1]) + " received by a worker"
	}
	lines := bytes.Split(bytes.TrimSpace(t.data), []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		line := lines[i]
		if len(bytes.TrimSpace(line)) == 0 || decoration.Match(line) {
			continue
		}
		return strings.ToValidUTF8(string(line[max(0, len(line)-300):]), "\ufffd")
	}
	return ""
}

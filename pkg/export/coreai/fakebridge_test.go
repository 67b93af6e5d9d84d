package coreai

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"afmq/pkg/infer"
)

var bg = context.Background()

// The test's own program stands for a Python interpreter if this variable is set: it speaks the
// bridge's protocol without a compiler. The value says what it does wrong.
const fakeVariable = "AFMQ_TEST_BRIDGE"

func TestMain(m *testing.M) {
	if fault := os.Getenv(fakeVariable); fault != "" {
		fakeBridge(fault)
		return
	}
	os.Exit(m.Run())
}

// fake returns the interpreter of a bridge with a fault, "none" for a good one. artifact is what
// it computes logits with.
func fake(t *testing.T, fault, artifact string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeVariable, fault)
	t.Setenv(fakeVariable+"_ARTIFACT", artifact)
	return exe
}

// fakeBridge answers requests until its input ends.
func fakeBridge(fault string) {
	out := bufio.NewWriter(os.Stdout)
	say := func(v any, payload []byte) {
		data, _ := json.Marshal(v)
		out.Write(append(data, '\n'))
		out.Write(payload)
		out.Flush()
	}
	versions := map[string]string{"python": "3.11.0", "coreai-core": pinned("coreai-core"), "numpy": pinned("numpy")}
	switch fault {
	case "silent":
		fmt.Fprintln(os.Stderr, "SyntaxError: invalid syntax")
		return
	case "version":
		versions["coreai-core"] = "1.0.0b9"
	case "missing":
		versions["coreai-core"] = ""
	}
	say(map[string]any{"versions": versions}, nil)
	f := &fakeProgram{fault: fault}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			panic(err)
		}
		answer, payload := f.do(r)
		if r.Do == "run" && fault == "vanishes" {
			say(answer, payload[:len(payload)/2])
			fmt.Fprintln(os.Stderr, "Segmentation fault")
			os.Exit(9)
		}
		say(answer, payload)
	}
}

type fakeProgram struct {
	fault     string
	model     *infer.Model
	precision string
	cache     map[string]*infer.Cache
}

func (f *fakeProgram) do(r request) (map[string]any, []byte) {
	switch r.Do {
	case "build":
		return f.build(r), nil
	case "open":
		f.precision = r.Precision
		if f.model == nil {
			m, err := infer.Open(bg, os.Getenv(fakeVariable+"_ARTIFACT"), infer.OpenOptions{})
			if err != nil {
				return map[string]any{"error": err.Error()}, nil
			}
			f.model = m
		}
	case "reset":
		if r.Context == 0 { // the caches would be those of the whole context
			return map[string]any{"error": "no length of the caches"}, nil
		}
		f.cache = map[string]*infer.Cache{}
	case "run":
		data := f.run(r)
		return map[string]any{"ok": true, "bytes": len(data)}, data
	}
	return map[string]any{"ok": true}, nil
}

// build writes an asset that contains the constants as the compiler stores them: the fp16 program
// has its scales rounded.
func (f *fakeProgram) build(r request) map[string]any {
	switch f.fault {
	case "dies":
		fmt.Fprintln(os.Stderr, "Killed")
		os.Exit(137)
	case "bus error":
		panic(syscall.Exec("/bin/sh", []string{"sh", "-c", "kill -BUS $$"}, os.Environ()))
	case "hangs":
		time.Sleep(time.Hour)
	case "refuses":
		return map[string]any{"error": "ValueError: no such operation"}
	case "full":
		return map[string]any{"error": "OSError: [Errno 28] No space left on device", "errno": syscall.ENOSPC}
	case "aborts":
		fmt.Fprintln(os.Stderr, "LLVM ERROR: IO failure on output stream: No space left on device")
		os.Exit(1)
	case "chatter":
		fmt.Println("a library greets")
	}
	var j job
	data, err := os.ReadFile(r.Job)
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(data, &j); err != nil {
		panic(err)
	}
	raw, err := os.ReadFile(r.Constants)
	if err != nil {
		panic(err)
	}
	program := []byte("ML\xefR odd")
	names := make([]string, 0, len(j.Constants))
	for name := range j.Constants {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := j.Constants[name]
		part := raw[c.Offset : c.Offset+c.Bytes]
		if strings.HasSuffix(name, ".scale") {
			part = halved(part)
		}
		program = append(append(program, part...), name...)
	}
	if f.fault == "damages" {
		at := j.Constants["model.layers.1.mlp.up_proj.weight.indices"]
		i := strings.Index(string(program), string(raw[at.Offset:at.Offset+at.Bytes]))
		program[i+int(at.Bytes)-1] ^= 0x10
	}
	if err := os.MkdirAll(r.Asset, 0o777); err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(r.Asset, "main.mlirb"), program, 0o666); err != nil {
		panic(err)
	}
	var functions []string
	for _, x := range j.Functions {
		functions = append(functions, x.Name)
	}
	return map[string]any{"ok": true, "functions": functions, "reproducible": true}
}

// halved rounds float32 values to fp16 through the package under test's own writer.
func halved(data []byte) []byte {
	var out []byte
	h := &halfWriter{e: &exporter{}, append: func(b []byte) error { out = append(out, b...); return nil }}
	if _, err := h.Write(data); err != nil {
		panic(err)
	}
	return out
}

// run computes logits with the engine.
func (f *fakeProgram) run(r request) []byte {
	key := r.Function + r.Adapter
	if f.cache[key] == nil {
		f.cache[key] = f.model.NewCache(f.model.Config.MaxPositions)
	}
	runner := f.model.NewRunner(nil)
	logits := make([]float32, len(r.IDs)*f.model.Config.VocabSize)
	runner.Logits(logits, runner.Forward([]infer.Segment{{Cache: f.cache[key], Tokens: r.IDs}}), len(r.IDs))
	if f.fault == "wrong" && f.precision == "float32" {
		logits[len(logits)-1] += 0.02
	}
	if factor := map[string]float32{"blurred": 0.97, "rough": 0.6}[f.fault]; factor > 0 && f.precision == "float16" {
		for i := range logits {
			logits[i] *= factor
		}
	}
	if f.fault == "nan" {
		logits[3] = float32(math.NaN())
	}
	out := make([]byte, 0, 4*len(logits))
	for _, x := range logits {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
	}
	if f.fault == "short" {
		out = out[4:]
	}
	return out
}

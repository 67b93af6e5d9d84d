package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"afmq/internal/demo"
)

// asProgram in the environment makes the test binary be the program, so that tests can
// kill it, starve it or take its streams away.
const asProgram = "AFMQ_TEST_PROGRAM"

// crashRounds in the environment is how often each job is killed, stopped and so on. With
// it set, tests that take sizes or places for their input take all of them.
const crashRounds = "AFMQ_CRASH_ROUNDS"

// fullDemo in the environment makes the test of the demo that of all it does.
const fullDemo = "AFMQ_FULL_DEMO"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" { // the program itself, under a test's hands
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	testscript.Main(cleaning{m}, map[string]func(){
		"afmq": func() {
			if os.Getenv(fullDemo) == "" {
				demoVolume.texts, demoVolume.trainTexts, demoVolume.training, demoVolume.initTokens = 8, 16, 8000, 4096
			}
			os.Exit(runChecked(os.Args[1:]))
		},
	})
}

// cleaning removes what tests share once all have run.
type cleaning struct{ *testing.M }

func (m cleaning) Run() int {
	code := m.M.Run()
	if shared != "" {
		os.RemoveAll(shared)
	}
	return code
}

// shared is a directory that tests share, "" until one needs it. Tests that run at the same time make
// what is in it under sharedMutex.
var (
	shared      string
	sharedMutex sync.Mutex
)

// TestScripts runs testdata/script/*.txtar, each of which says what behaviour of
// the command line it protects. Every script finds the demo model in ./model and
// a text in ./text.txt, and documents to train on in ./train.jsonl. All JSON that a command
// prints in them is checked against its published schema.
func TestScripts(t *testing.T) {
	schemas, err := filepath.Abs(schemaDir)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv(schemaDirEnv, schemas)
			env.Setenv(fullDemo, os.Getenv(fullDemo))
			if err := demo.Extract(filepath.Join(env.WorkDir, "model")); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(env.WorkDir, "train.jsonl"), trainingText(), 0o644); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "text.txt"), []byte(sampleText), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"serves":  serves,
			"json":    jsonValue,
			"schema":  schemaCommand,
			"flip":    flip,
			"replace": replace,
			"cut":     cut,
		},
	})
}

// exits CODE COMMAND...: the command ends with exactly this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		m := regexp.MustCompile(`exit status (\d+)`).FindStringSubmatch(err.Error())
		if m == nil {
			ts.Fatalf("%v", err)
		}
		code = m[1]
	}
	if code != args[0] {
		ts.Fatalf("%v: exit code %s, expected %s\n%s", args[1:], code, args[0], ts.ReadFile("stderr"))
	}
}

// serves COMMAND...: the command prints where it serves, answers /health, and ends with exit code 0
// after SIGTERM. Its output is then that of the script's last command.
func serves(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: serves COMMAND...")
	}
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	c := exec.Command(path, args[1:]...)
	c.Dir = ts.Getenv("WORK")
	c.Env = append(os.Environ(), schemaDirEnv+"="+ts.Getenv(schemaDirEnv))
	r, w, err := os.Pipe()
	ts.Check(err)
	defer r.Close()
	c.Stdout, c.Stderr = w, ts.Stderr()
	ts.Check(c.Start())
	w.Close()
	kill := time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() })
	defer kill.Stop()
	var out []byte
	url := regexp.MustCompile(`http://[\d.:]+`)
	buf := make([]byte, 4096)
	for !url.Match(out) {
		n, err := r.Read(buf)
		out = append(out, buf[:n]...)
		if err != nil {
			break
		}
	}
	answer, err := http.Get(string(url.Find(out)) + "/health")
	if err != nil || answer.StatusCode != http.StatusOK {
		_ = c.Process.Kill()
		ts.Fatalf("%v: %v, after %q", args, err, out)
	}
	answer.Body.Close()
	ts.Check(c.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(r)
	ts.Check(err)
	ts.Check(c.Wait())
	_, err = ts.Stdout().Write(append(out, rest...))
	ts.Check(err)
}

// json KEY [OP VALUE]: stdout is one JSON object in which KEY (dots descend, a
// number indexes an array) exists and compares as asked: ==, <, >, ~ (regexp).
func jsonValue(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 && len(args) != 3 {
		ts.Fatalf("usage: [!] json KEY [OP VALUE]")
	}
	d := json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile("stdout"))))
	var v any
	if err := d.Decode(&v); err != nil {
		ts.Fatalf("stdout is not JSON: %v\n%s", err, ts.ReadFile("stdout"))
	}
	if d.More() {
		ts.Fatalf("stdout has more than one JSON object")
	}
	for _, key := range strings.Split(args[0], ".") {
		switch x := v.(type) {
		case map[string]any:
			found, ok := x[key]
			if !ok {
				if neg && len(args) == 1 {
					return
				}
				ts.Fatalf("no key %q in %v", args[0], x)
			}
			v = found
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(x) {
				ts.Fatalf("no index %q in an array of %d", key, len(x))
			}
			v = x[i]
		default:
			ts.Fatalf("%q ends at %v", args[0], v)
		}
	}
	if len(args) == 1 {
		if neg {
			ts.Fatalf("key %q is there: %v", args[0], v)
		}
		return
	}
	if holds(ts, v, args[1], args[2]) == neg {
		ts.Fatalf("%s is %v, expected %s %s (negated: %v)", args[0], v, args[1], args[2], neg)
	}
}

func holds(ts *testscript.TestScript, v any, op, want string) bool {
	switch op {
	case "==":
		return fmt.Sprint(v) == want
	case "~":
		return regexp.MustCompile(want).MatchString(fmt.Sprint(v))
	}
	x, ok := v.(float64)
	y, err := strconv.ParseFloat(want, 64)
	if !ok || err != nil || math.IsNaN(x) {
		ts.Fatalf("%v %s %s does not compare numbers", v, op, want)
	}
	switch op {
	case "<":
		return x < y
	case ">":
		return x > y
	}
	ts.Fatalf("unknown operator %q", op)
	return false
}

// flip FILE OFFSET: changes one bit of the byte there; a negative offset counts
// from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	data := []byte(ts.ReadFile(args[0]))
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

// replace FILE OLD NEW: edits a text file; OLD must be there.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	data := ts.ReadFile(args[0])
	if !strings.Contains(data, args[1]) {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(data, args[1], args[2], 1)), 0o644))
}

// cut FILE BYTES: truncates the file.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), n))
}

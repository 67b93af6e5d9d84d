//go:build linux || darwin

package safetensors

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"afmq/internal/disk"
	"afmq/pkg/fault"
)

// TestMain makes the test binary the process that is killed or out of space.
func TestMain(m *testing.M) {
	path := os.Getenv("WRITER_PATH")
	switch os.Getenv("WRITER_ROLE") {
	case "":
		os.Exit(m.Run())
	case "crash": // dies at the nth step
		left, _ := strconv.Atoi(os.Getenv("WRITER_STEP"))
		disk.Step = func(string) {
			if left--; left == 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		w, err := Create(path, plan, nil)
		for i := 0; i < len(plan) && err == nil; i++ {
			err = w.Write(plan[i].Name, planData(i))
		}
		if err == nil {
			err = w.Close()
		}
		end(err)
	case "full": // can write files of 1000 bytes
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: 1000, Max: 1000}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			end(err)
		}
		w, err := Create(path, []Info{{"a", U8, []int{2000}}}, nil)
		if err == nil {
			err = w.Write("a", make([]byte, 2000))
			w.Abort()
		}
		if fault.KindOf(err) == fault.Output {
			fmt.Println("full")
			os.Exit(0)
		}
		end(fmt.Errorf("no error of kind Output: %v", err))
	}
}

func end(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(role, path string, n int) ([]byte, error) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "WRITER_ROLE="+role, "WRITER_PATH="+path, fmt.Sprintf("WRITER_STEP=%d", n))
	return c.CombinedOutput()
}

// A writer killed at any step leaves the old file or the whole new one, and the next run
// ends with only the new one.
func TestKill(t *testing.T) {
	want := wholePlan(t)
	for n := 1; ; n++ {
		dir := t.TempDir()
		path := filepath.Join(dir, "w")
		must(t, os.WriteFile(path, []byte("old"), 0o666))
		out, err := child("crash", path, n)
		got := read(t, path)
		if err == nil {
			if n < 7 || !bytes.Equal(got, want) {
				t.Fatalf("%d steps, %d bytes", n-1, len(got))
			}
			return
		}
		if !strings.Contains(err.Error(), "killed") {
			t.Fatalf("step %d: %v: %s", n, err, out)
		}
		if string(got) != "old" && !bytes.Equal(got, want) {
			t.Fatalf("step %d: a file of %d bytes", n, len(got))
		}
		if out, err := child("crash", path, 1000); err != nil {
			t.Fatalf("step %d: again: %v: %s", n, err, out)
		}
		wantNames(t, dir, "w")
		if !bytes.Equal(read(t, path), want) {
			t.Fatalf("step %d: other bytes in the end", n)
		}
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	out, err := child("full", filepath.Join(dir, "w"), 0)
	if err != nil || string(out) != "full\n" {
		t.Errorf("%v: %s", err, out)
	}
	wantNames(t, dir)
}

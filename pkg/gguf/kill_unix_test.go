//go:build linux || darwin

package gguf

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"afmq/internal/disk"
)

// TestMain makes the test binary the process that is killed.
func TestMain(m *testing.M) {
	path := os.Getenv("WRITER_PATH")
	if path == "" {
		os.Exit(m.Run())
	}
	left, _ := strconv.Atoi(os.Getenv("WRITER_STEP"))
	disk.Step = func(string) {
		if left--; left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if err := writeFour(path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func writeFour(path string) error {
	w, err := Create(path, nil, fourTensors)
	for _, x := range fourTensors {
		if err == nil {
			n, _ := x.Bytes()
			err = w.Write(x.Name, bytes.Repeat([]byte{7}, int(n)))
		}
	}
	if err == nil {
		err = w.Close()
	}
	return err
}

// A writer killed at any step leaves nothing at its path or the whole file, and what is left
// beside it does not hinder the next writer.
func TestKill(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole")
	must(t, writeFour(whole))
	for n := 1; ; n++ {
		path := filepath.Join(t.TempDir(), "f")
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "WRITER_PATH="+path, fmt.Sprint("WRITER_STEP=", n))
		out, err := c.CombinedOutput()
		if err == nil {
			if n < 6 {
				t.Fatalf("%d steps", n-1)
			}
			return
		}
		if !strings.Contains(err.Error(), "killed") {
			t.Fatalf("step %d: %v: %s", n, err, out)
		}
		if _, err := os.Lstat(path); err != nil {
			must(t, writeFour(path))
		}
		if d := difference(read(t, whole), read(t, path)); d != "" {
			t.Fatalf("step %d: %s", n, d)
		}
		if names, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".f*")); err != nil || len(names) > 0 {
			t.Fatalf("step %d: %v, %v", n, names, err)
		}
	}
}

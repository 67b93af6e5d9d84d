//go:build linux || darwin

package stage

import (
	"fmt"
	"maps"
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

// TestMain makes the test binary the process that is killed, holds the lock or is out of
// space.
func TestMain(m *testing.M) {
	target := os.Getenv("STAGE_TARGET")
	switch os.Getenv("STAGE_ROLE") {
	case "":
		os.Exit(m.Run())
	case "crash": // dies at the nth step
		left, _ := strconv.Atoi(os.Getenv("STAGE_STEP"))
		disk.Step = func(string) {
			if left--; left == 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		d, err := Open(target, []byte(job), Options{File: os.Getenv("STAGE_FILE") != ""})
		switch {
		case err != nil:
		case os.Getenv("STAGE_FILE") != "":
			err = workFile(d)
		default:
			err = d.End(work(d))
		}
		report(err)
	case "hold": // takes the lock and waits
		_, err := Open(target, []byte(job), Options{})
		if err != nil {
			report(err)
		}
		fmt.Println("held")
		select {}
	case "full": // can write files of 1000 bytes
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: 1000, Max: 1000}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			report(err)
		}
		d, err := Open(target, []byte(job), Options{})
		if err == nil {
			err = d.End(d.WriteFile("large", make([]byte, 2000)))
		}
		if fault.KindOf(err) == fault.Output {
			fmt.Println("full")
			os.Exit(0)
		}
		report(err)
	}
}

func report(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(role, target string, n int) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "STAGE_ROLE="+role, "STAGE_TARGET="+target, fmt.Sprintf("STAGE_STEP=%d", n))
	return c
}

// A run killed at any step leaves the target absent or whole. The same run again creates
// the target and leaves nothing else.
func TestKill(t *testing.T) {
	for n := 1; ; n++ {
		if n > 200 {
			t.Fatal("the run never ends")
		}
		parent := t.TempDir()
		target := filepath.Join(parent, "t")
		out, err := child("crash", target, n).CombinedOutput()
		if err == nil {
			if n < 20 {
				t.Fatalf("only %d steps", n-1)
			}
			wantTree(t, parent, made)
			t.Logf("killed at %d steps", n-1)
			return
		}
		if !strings.Contains(err.Error(), "killed") {
			t.Fatalf("step %d: %v: %s", n, err, out)
		}
		left := tree(t, parent)
		published := maps.Clone(left)
		maps.DeleteFunc(published, func(name, _ string) bool { return strings.HasPrefix(name, ".t.afmq/") })
		if _, there := left["t/"]; there && !maps.Equal(published, made) {
			t.Fatalf("step %d: half a target: %q", n, left)
		}
		d, err := Open(target, []byte(job), Options{})
		if err == nil {
			err = d.End(work(d))
		} else if _, there := left["t/"]; there && fault.KindOf(err) == fault.Output {
			err = nil // it was published
		}
		if err != nil {
			t.Fatalf("step %d: again: %v", n, err)
		}
		wantTree(t, parent, made)
	}
}

// workFile creates a file in two pieces of work.
func workFile(d *Dir) error {
	j, err := d.Journal()
	if err != nil {
		return err
	}
	for n := len(j.Records()); n < 2; n++ {
		if err := j.Append(n); err != nil {
			return err
		}
	}
	return d.CommitFile([]byte("whole"))
}

// A run that creates a file, killed at any step, leaves it absent or whole. The same run
// again creates the file and leaves nothing else.
func TestKillFile(t *testing.T) {
	for n := 1; ; n++ {
		if n > 200 {
			t.Fatal("the run never ends")
		}
		parent := t.TempDir()
		target := filepath.Join(parent, "t")
		c := child("crash", target, n)
		c.Env = append(c.Env, "STAGE_FILE=1")
		out, err := c.CombinedOutput()
		whole := map[string]string{"t": "whole"}
		if err == nil {
			if n < 10 {
				t.Fatalf("only %d steps", n-1)
			}
			wantTree(t, parent, whole)
			return
		}
		if !strings.Contains(err.Error(), "killed") {
			t.Fatalf("step %d: %v: %s", n, err, out)
		}
		left := tree(t, parent)
		if data, there := left["t"]; there && data != "whole" {
			t.Fatalf("step %d: half a target: %q", n, left)
		}
		d, err := Open(target, []byte(job), Options{File: true})
		if err == nil {
			j, jerr := d.Journal()
			must(t, jerr)
			if done := strings.Count(left[".t.afmq/"+journalName], "\n"); len(j.Records()) != done {
				t.Errorf("step %d: resumed with %d records of %d", n, len(j.Records()), done)
			}
			err = workFile(d)
		} else if _, there := left["t"]; there && fault.KindOf(err) == fault.Output {
			err = nil // it was published
		}
		if err != nil {
			t.Fatalf("step %d: again: %v", n, err)
		}
		wantTree(t, parent, whole)
	}
}

func TestLock(t *testing.T) {
	parent := t.TempDir()
	target := filepath.Join(parent, "t")
	c := child("hold", target, 0)
	pipe, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	buf := make([]byte, 4)
	if _, err := pipe.Read(buf); err != nil || string(buf) != "held" {
		t.Fatalf("%q, %v", buf, err)
	}
	for _, opts := range []Options{{}, {Restart: true}} {
		if _, err := Open(target, []byte(job), opts); fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), "another process") {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	must(t, c.Process.Kill())
	c.Wait()
	d := open(t, target, Options{})
	must(t, d.End(work(d)))
	wantTree(t, parent, made)
}

func TestFullDisk(t *testing.T) {
	parent := t.TempDir()
	out, err := child("full", filepath.Join(parent, "t"), 0).CombinedOutput()
	if err != nil || string(out) != "full\n" {
		t.Errorf("%v: %s", err, out)
	}
	wantTree(t, parent, nil)
}

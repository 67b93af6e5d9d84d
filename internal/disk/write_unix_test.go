//go:build linux || darwin

package disk

import (
	"errors"
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

	"afmq/pkg/fault"
)

// TestMain lets the test binary be the process that is killed, or that cannot write.
func TestMain(m *testing.M) {
	path := os.Getenv("DISK_PATH")
	write := WriteFile
	if method := os.Getenv("DISK_METHOD"); method != "" {
		methods[method]()
		write = WriteNewFile
	}
	switch os.Getenv("DISK_ROLE") {
	case "":
		os.Exit(m.Run())
	case "crash": // dies at the nth step
		left, _ := strconv.Atoi(os.Getenv("DISK_STEP"))
		Step = func(string) {
			if left--; left == 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		report(write(path, []byte("whole")))
	case "full": // can write files of 1000 bytes
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: 1000, Max: 1000}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			report(err)
		}
		report(write(path, make([]byte, 2000)))
	case "read-only": // is not the superuser
		if err := os.Chdir(filepath.Dir(path)); err != nil {
			report(err)
		}
		if os.Geteuid() == 0 {
			if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
				report(err)
			}
		}
		report(write(filepath.Base(path), []byte("x")))
	}
}

// report ends with the exit code 6 for an error of kind fault.Output.
func report(err error) {
	switch {
	case err == nil:
		os.Exit(0)
	case fault.KindOf(err) == fault.Output:
		fmt.Println(err)
		os.Exit(6)
	}
	fmt.Println(err)
	os.Exit(1)
}

// child runs the test binary in a role and returns its output and exit code, -1 for a
// signal. Without a method it replaces a file, with one it creates a file.
func child(t *testing.T, role, path, method string, n int) (string, int) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "DISK_ROLE="+role, "DISK_PATH="+path, "DISK_METHOD="+method, fmt.Sprintf("DISK_STEP=%d", n))
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// A writer killed at any step leaves the old state or the whole file, and the next writer
// succeeds and removes what was left.
func TestKill(t *testing.T) {
	for method, steps := range map[string]int{"": 4, "rename": 4, "link": 5, "reserve": 5} {
		for n := 1; n <= steps+1; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if method == "" {
				put(t, dir, "f", "old")
			}
			put(t, dir, "f.partial", "mine")
			out, code := child(t, "crash", path, method, n)
			left := tree(t, dir)
			if n > steps {
				if code != 0 {
					t.Fatalf("%s: code %d after %d steps: %s", method, code, n-1, out)
				}
				wantTree(t, dir, map[string]string{"f": "whole", "f.partial": "mine"})
				continue
			}
			if code != -1 {
				t.Fatalf("%s step %d: code %d: %s", method, n, code, out)
			}
			data, there := left["f"]
			switch {
			case data == "whole", there && method == "" && data == "old", !there && method != "":
			case data == "" && method == "reserve" && n == 4: // as its documentation says
				must(t, os.Remove(path))
			default:
				t.Fatalf("%s step %d: left %q", method, n, left)
			}
			if out, code := child(t, "crash", path, method, 100); code != 0 && (data != "whole" || !strings.Contains(out, "already exists")) {
				t.Fatalf("%s step %d: again: code %d: %s", method, n, code, out)
			}
			wantTree(t, dir, map[string]string{"f": "whole", "f.partial": "mine"})
		}
	}
}

// A write that fails leaves the old file and nothing else.
func TestFailure(t *testing.T) {
	for _, method := range []string{"", "rename", "link", "reserve"} {
		dir := t.TempDir()
		var before map[string]string
		if method == "" {
			put(t, dir, "f", "old")
			before = map[string]string{"f": "old"}
		}
		if out, code := child(t, "full", filepath.Join(dir, "f"), method, 0); code != 6 || !strings.Contains(out, "f: cannot be written: file too large") {
			t.Errorf("%s: a full disk: code %d: %s", method, code, out)
		}
		wantTree(t, dir, before)
		must(t, os.Chmod(dir, 0o555))
		if out, code := child(t, "read-only", filepath.Join(dir, "f"), method, 0); code != 6 || !strings.Contains(out, "f: cannot be written: permission denied") {
			t.Errorf("%s: a read-only directory: code %d: %s", method, code, out)
		}
		must(t, os.Chmod(dir, 0o777))
		wantTree(t, dir, before)
	}
}

// Permissions are those of os.Create for a new file, and stay those of a replaced one.
func TestPermissions(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o027))
	dir := t.TempDir()
	mode := func(name string) os.FileMode {
		info, err := os.Lstat(filepath.Join(dir, name))
		must(t, err)
		return info.Mode()
	}
	f, err := os.Create(filepath.Join(dir, "created"))
	must(t, err)
	must(t, f.Close())
	must(t, WriteFile(filepath.Join(dir, "written"), nil))
	must(t, WriteNewFile(filepath.Join(dir, "new"), nil))
	must(t, os.Symlink("private", filepath.Join(dir, "link")))
	must(t, WriteFile(filepath.Join(dir, "link"), nil))
	for _, name := range []string{"written", "new", "link"} {
		if mode(name) != mode("created") || mode(name) != 0o640 {
			t.Errorf("%s has %v, os.Create gives %v", name, mode(name), mode("created"))
		}
	}
	for name, perm := range map[string]os.FileMode{"private": 0o600, "shared": 0o666, "none": 0} {
		must(t, os.Chmod(put(t, dir, name, ""), perm))
		must(t, WriteFile(filepath.Join(dir, name), []byte("x")))
		if mode(name) != perm {
			t.Errorf("%s has %v, had %v", name, mode(name), perm)
		}
	}
}

// A leftover is removed only if it is a regular file whose lock is free.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	put(t, dir, ".f.afmq-0000000000000000", "torn")
	active, err := createTemp(path, 0o666)
	must(t, err)
	defer active.Close()
	must(t, os.Symlink("victim", filepath.Join(dir, ".f.afmq-1111111111111111")))
	must(t, syscall.Mkfifo(filepath.Join(dir, ".f.afmq-2222222222222222"), 0o666))
	put(t, dir, "victim", "precious")
	want := tree(t, dir)
	delete(want, ".f.afmq-0000000000000000")
	must(t, WriteFile(path, []byte("x")))
	want["f"] = "x"
	wantTree(t, dir, want)
	must(t, active.Close())
	must(t, WriteFile(path, []byte("y")))
	delete(want, filepath.Base(active.Name()))
	want["f"] = "y"
	wantTree(t, dir, want)
}

// A named pipe, even without a reader, is refused at once.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	must(t, syscall.Mkfifo(pipe, 0o666))
	refused(t, WriteFile(pipe, nil), "is not a regular file")
	_, err := OpenLocked(pipe)
	refused(t, err, "is not a regular file")
}

// A staged file takes the place of what another process left and excludes a second writer;
// a hard link of what was left keeps its content.
func TestCreateStaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	must(t, os.Link(put(t, dir, ".f.afmq-partial", "left"), filepath.Join(dir, "backup")))
	put(t, dir, "f.partial", "mine")
	f, err := CreateStaged(path)
	must(t, err)
	_, err = f.WriteString("new")
	must(t, err)
	for _, open := range []func(string) (*os.File, error){CreateStaged, func(p string) (*os.File, error) { return OpenLocked(StagedPath(p)) }} {
		if _, err := open(path); !errors.Is(err, ErrLocked) {
			t.Errorf("a second writer: %v", err)
		}
	}
	wantTree(t, dir, map[string]string{".f.afmq-partial": "new", "backup": "left", "f.partial": "mine"})
	must(t, f.Close())
	f, err = OpenLocked(StagedPath(path))
	must(t, err)
	must(t, f.Close())
	must(t, os.Remove(StagedPath(path)))
	must(t, os.Symlink("backup", StagedPath(path)))
	before := tree(t, dir)
	_, err = CreateStaged(path)
	refused(t, err, "is not a regular file")
	if _, err := CreateStaged(filepath.Join(dir, "no", "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	wantTree(t, dir, before)
}

// Of many that take over one staged file exactly one gets it.
func TestConcurrentStaged(t *testing.T) {
	for range 25 {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		put(t, dir, ".f.afmq-partial", "left")
		files := make(chan *os.File, 8)
		_, errs := concurrently(8, func([]byte) error {
			f, err := CreateStaged(path)
			if err == nil {
				files <- f
			}
			return err
		})
		close(files)
		if len(files) != 1 {
			t.Fatalf("%d writers have the file: %v", len(files), errs)
		}
		(<-files).Close()
		if got := tree(t, dir); !maps.Equal(got, map[string]string{".f.afmq-partial": ""}) {
			t.Fatalf("%q", got)
		}
	}
}

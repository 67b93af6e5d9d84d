package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ownDisk runs a test again in a child process with mounts of its own, where it may mount
// small file systems, as an ordinary user too. It reports whether this process is that
// child.
func ownDisk(t *testing.T) bool {
	t.Helper()
	const marker = "AFMQ_TEST_MOUNTS"
	if os.Getenv(marker) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Skipf("mounts cannot be kept private: %v", err)
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v=true", "-test.timeout=0")
	c.Env = append(os.Environ(), marker+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("this machine gives no mounts of their own: %v", err)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("in a process with mounts of its own:\n%s", out)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("did not run:\n%s", out)
	}
	t.Logf("%s", out)
	return false
}

// mountTmpfs mounts a tmpfs with these options.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("no tmpfs can be mounted: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func remount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, options); err != nil {
		t.Fatal(err)
	}
}

// TestDisk runs on disks of its own what follows.
func TestDisk(t *testing.T) {
	t.Parallel()
	if ownDisk(t) {
		t.Run("full", testFullDisk)
		t.Run("fills up", testDiskFillsUp)
		t.Run("read-only", testReadOnly)
	}
}

// A disk that is full, at whatever point of a run, is exit 6 in one line. It leaves no
// target, and once there is room the same command ends with the bytes of a run that had
// it from the start.
func testFullDisk(t *testing.T) {
	dir := workplace(t)
	const roomy = "size=64m,nr_inodes=1000"
	for k, j := range jobs {
		u := reference(t, dir, j)
		bytes := 0
		for _, data := range u.whole {
			bytes += len(data)
		}
		// A disk of n files: each run gets one step further. A disk of so many bytes: the run is
		// refused at once where it is known to be too small, and meets its end where not.
		var disks []string
		for n := 1; n <= 20; n++ {
			disks = append(disks, fmt.Sprintf("size=64m,nr_inodes=%d", n))
		}
		for n := range 8 {
			disks = append(disks, fmt.Sprintf("size=%dk,nr_inodes=1000", 4+(bytes>>10)*n/4))
		}
		if os.Getenv(crashRounds) == "" { // one of them, another for each job, too small for it
			disks = disks[[]int{2, 21, 0, 21, 22, 1, 2, 2, 22, 3, 22, 0}[k]:][:1]
		}
		failed := 0
		for _, options := range disks {
			parent := mountTmpfs(t, options)
			target := filepath.Join(parent, "t")
			res := execute(t, dir, j.to(target)...)
			if res.code == 0 {
				if d := sameFiles(snapshot(t, target), u.whole); d != "" {
					t.Errorf("%s on %s: other bytes: %s", j.name, options, d)
				}
				continue
			}
			failed++
			if res.code != 6 {
				t.Errorf("%s on %s: exit code %d: %s", j.name, options, res.code, res.stderr)
			}
			oneLine(t, res)
			if !strings.Contains(res.stderr, "no space") {
				t.Errorf("%s on %s: says %q", j.name, options, res.stderr)
			}
			if wholeOrAbsent(t, parent, u.whole) {
				t.Errorf("%s on %s: failed, and the target is there", j.name, options)
			}
			remount(t, parent, 0, roomy)
			again(t, dir, j, parent, u.whole)
			unix.Unmount(parent, unix.MNT_DETACH)
		}
		if failed == 0 {
			t.Errorf("%s: no disk was full", j.name)
		}
		t.Logf("%s: %d of %d disks were full", j.name, failed, len(disks))
	}
}

// Somebody else fills the disk while a run is at work: what it has done is not done again.
func testDiskFillsUp(t *testing.T) {
	dir := workplace(t)
	for _, j := range jobs[:4] {
		u := reference(t, dir, j)
		parent := mountTmpfs(t, "size=8m")
		target := filepath.Join(parent, "t")
		journal := filepath.Join(parent, ".t.afmq", "journal.jsonl")
		wait, ended := start(program(t.Context(), dir, j.to(target)...))
		filler := filepath.Join(parent, "filler")
		for over := false; !over; {
			select {
			case <-ended:
				over = true
			case <-time.After(50 * time.Microsecond):
				// Records of finished work: those of scores alone do not count in the results.
				if data, err := os.ReadFile(journal); err == nil && strings.Contains(string(data), "\n") &&
					(j.name != "compensated" || strings.Contains(string(data), `"item"`)) {
					fill(t, filler)
					over = true
				}
			}
		}
		res := wait()
		if res.code == 0 {
			t.Errorf("%s: was not hindered", j.name)
			continue
		}
		if res.code != 6 || !strings.Contains(res.stderr, "no space") {
			t.Errorf("%s: exit code %d: %s", j.name, res.code, res.stderr)
		}
		oneLine(t, res)
		wholeOrAbsent(t, parent, u.whole)
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		res = mustExecute(t, dir, append(j.to(target), "--json")...)
		if d := sameFiles(snapshot(t, target), u.whole); d != "" {
			t.Errorf("%s: other bytes: %s", j.name, d)
		}
		if strings.Contains(res.stdout, `"resumed_modules": 0`) || strings.Contains(res.stdout, `"resumed_units": 0`) {
			t.Errorf("%s: began again", j.name)
		}
		onlyHolds(t, parent, "t")
	}
}

// fill writes to a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
}

// A place that is read-only is exit 6 in one line, and what an interrupted run had left
// there is still there, and good, when it is writable again.
func testReadOnly(t *testing.T) {
	dir := workplace(t)
	for i, j := range jobs {
		u := reference(t, dir, j)
		parent := mountTmpfs(t, "size=64m")
		target := filepath.Join(parent, "t")
		if os.Getenv(crashRounds) == "" && j.name == "compensated" {
			continue // takes long
		}
		if i < 4 { // what leaves a state
			_, r := rounds(t, 1)
			disturbed(t, dir, j.to(target), parent, r, undisturbed{takes: u.takes, changes: max(u.changes/2, 1)}, syscall.SIGKILL)
		}
		before := snapshot(t, parent)
		if _, there := before["t"]; there || len(snapshot(t, target)) > 0 {
			continue // it was too fast
		}
		remount(t, parent, unix.MS_RDONLY, "")
		res := execute(t, dir, j.to(target)...)
		if res.code != 6 || !strings.Contains(res.stderr, "read-only file system") {
			t.Errorf("%s: exit code %d: %s", j.name, res.code, res.stderr)
		}
		oneLine(t, res)
		if d := sameFiles(snapshot(t, parent), before); d != "" {
			t.Errorf("%s: changed %s", j.name, d)
		}
		remount(t, parent, 0, "")
		again(t, dir, j, parent, u.whole)
	}
}

// What is in the way of a target is exit 6 in one line, and stays as it is.
func TestInTheWay(t *testing.T) {
	t.Parallel()
	dir := workplace(t)
	for _, j := range jobs {
		parent := t.TempDir()
		file := filepath.Join(parent, "file")
		if err := os.WriteFile(file, []byte("precious"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("nowhere", filepath.Join(parent, "link")); err != nil {
			t.Fatal(err)
		}
		before := snapshot(t, file)
		for _, target := range []string{"file", "file/below", "file/deep/below", "link", "/proc/nothing", "/dev/null", "/dev/null/below", strings.Repeat("n", 300)} {
			path := target
			if !filepath.IsAbs(target) {
				path = filepath.Join(parent, target)
			}
			res := execute(t, dir, j.to(path)...)
			if res.code != 6 {
				t.Errorf("%s to %.20s: exit code %d: %s", j.name, target, res.code, res.stderr)
			}
			oneLine(t, res)
		}
		if d := sameFiles(snapshot(t, file), before); d != "" {
			t.Errorf("%s: %s changed", j.name, d)
		}
		onlyHolds(t, parent, "file", "link")
	}
}

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"afmq/pkg/fault"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, []byte(content), 0o666))
	return path
}

// tree returns the names in dir with the content of regular files and the target of links.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	files := map[string]string{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			must(t, err)
			files[e.Name()] = "link to " + to
		case e.Type().IsRegular():
			data, err := os.ReadFile(path)
			must(t, err)
			files[e.Name()] = string(data)
		default:
			files[e.Name()] = e.Type().String()
		}
	}
	return files
}

func wantTree(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("%s holds %.200q, expected %.200q", dir, got, want)
	}
}

// refused checks that err is one line of kind fault.Output that contains want.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	if fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, expected one of kind Output with %q", err, want)
	}
}

// methods are the ways to publish a new file, each with what makes the others fail.
var methods = map[string]func(){
	"rename": func() {},
	"link":   func() { renameNoReplace = refuse },
	"reserve": func() {
		renameNoReplace = refuse
		link = refuse
	},
}

func refuse(string, string) error { return syscall.EINVAL }

// each runs test with each way to publish a new file.
func each(t *testing.T, test func(t *testing.T)) {
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		t.Run(name, func(t *testing.T) {
			rename, hard := renameNoReplace, link
			defer func() { renameNoReplace, link = rename, hard }()
			methods[name]()
			test(t)
		})
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	must(t, WriteFile(path, []byte("one")))
	wantTree(t, dir, map[string]string{"f": "one"})
	must(t, WriteFile(path, nil))
	wantTree(t, dir, map[string]string{"f": ""})
	long := strings.Repeat("é", 127) + "x" // 255 bytes
	must(t, WriteFile(filepath.Join(dir, long), []byte("two")))
	wantTree(t, dir, map[string]string{"f": "", long: "two"})
	refused(t, WriteFile(filepath.Join(path, "below"), nil), "f is not a directory")
	must(t, CheckReplaceable(path))
	must(t, CheckReplaceable(filepath.Join(dir, "new")))
	refused(t, CheckReplaceable(filepath.Join(path, "below")), "f is not a directory")
}

// A missing parent directory is created by whatever writes or checks a file.
func TestMissingParents(t *testing.T) {
	for name, write := range map[string]func(path string) error{
		"replacing": func(path string) error { return WriteFile(path, nil) },
		"new":       func(path string) error { return WriteNewFile(path, nil) },
		"checked":   CheckReplaceable, "checked new": CheckNew, "alone": MakeParent,
	} {
		dir := t.TempDir()
		must(t, write(filepath.Join(dir, "a", "b", "f")))
		if info, err := os.Stat(filepath.Join(dir, "a", "b")); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", name, err)
		}
		file := filepath.Join(dir, "file")
		must(t, os.WriteFile(file, nil, 0o666))
		refused(t, write(filepath.Join(file, "f")), "cannot be created: "+file+" is not a directory")
		refused(t, write(filepath.Join(file, "a", "b", "f")), "cannot be created: "+file+" is not a directory")
		must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
		refused(t, write(filepath.Join(dir, "dangling", "f")), "dangling is not a directory")
		name := strings.Repeat("x", 300)
		refused(t, write(filepath.Join(dir, name, "f")), "cannot create the directory "+filepath.Join(dir, name)+": ")
	}
}

func TestWriteNewFile(t *testing.T) {
	each(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		must(t, WriteNewFile(path, []byte("one")))
		refused(t, WriteNewFile(path, []byte("two")), "already exists")
		must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
		refused(t, WriteNewFile(filepath.Join(dir, "dangling"), []byte("two")), "already exists")
		wantTree(t, dir, map[string]string{"f": "one", "dangling": "link to nowhere"})
	})
}

// The file appears between the first check and the publication.
func TestNewFileAppears(t *testing.T) {
	each(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		Step = func(point string) {
			if point == "synced" {
				put(t, dir, "f", "theirs")
			}
		}
		defer func() { Step = func(string) {} }()
		refused(t, WriteNewFile(path, []byte("ours")), "already exists")
		wantTree(t, dir, map[string]string{"f": "theirs"})
	})
}

// A link is replaced, never written through.
func TestSymlinkTarget(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "victim", "precious")
	for name, to := range map[string]string{"link": "victim", "dangling": "nowhere", "out.partial": "victim"} {
		must(t, os.Symlink(to, filepath.Join(dir, name)))
	}
	for _, name := range []string{"link", "dangling", "out"} {
		must(t, WriteFile(filepath.Join(dir, name), []byte(name)))
	}
	wantTree(t, dir, map[string]string{
		"victim": "precious", "link": "link", "dangling": "dangling", "out": "out", "out.partial": "link to victim",
	})
}

// What is no regular file stays as it is.
func TestSpecialTarget(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "directory"), 0o777))
	must(t, os.Symlink("directory", filepath.Join(dir, "to directory")))
	must(t, os.Symlink(os.DevNull, filepath.Join(dir, "to device")))
	before := tree(t, dir)
	for name := range before {
		refused(t, WriteFile(filepath.Join(dir, name), []byte("x")), "is not a regular file")
		refused(t, CheckReplaceable(filepath.Join(dir, name)), "is not a regular file")
	}
	wantTree(t, dir, before)
}

// Files of the user with names near those of temporary files survive.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{}
	for _, name := range []string{
		"f.partial", "f~", ".f", ".f.afmq-", ".f.afmq-notes", ".f.afmq-partial", ".f.afmq-0123456789abcdeg",
		".f.afmq-0123456789ABCDEF", ".f.afmq-0123456789abcdef0", ".g.afmq-0123456789abcdef", "f.afmq-0123456789abcdef",
	} {
		put(t, dir, name, name)
		want[name] = name
	}
	must(t, WriteFile(filepath.Join(dir, "f"), []byte("one")))
	must(t, WriteNewFile(filepath.Join(dir, "new"), []byte("two")))
	want["f"], want["new"] = "one", "two"
	wantTree(t, dir, want)
}

// concurrently calls write from n goroutines at once, each with other data, and returns the
// data and the errors.
func concurrently(n int, write func(data []byte) error) (data []string, errs []error) {
	data, errs = make([]string, n), make([]error, n)
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		data[i] = strings.Repeat(fmt.Sprintf("writer %d ", i), 1000*(i+1))
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-begin
			errs[i] = write([]byte(data[i]))
		})
	}
	ready.Wait()
	close(begin)
	done.Wait()
	return data, errs
}

// Writers of one file all succeed, and the file is the whole data of one of them.
func TestConcurrentWriters(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for range 25 {
		data, errs := concurrently(8, func(data []byte) error { return WriteFile(path, data) })
		must(t, errors.Join(errs...))
		files := tree(t, dir)
		if len(files) != 1 || !slices.Contains(data, files["f"]) {
			t.Fatalf("%d files; f has %d bytes, of no one writer", len(files), len(files["f"]))
		}
	}
}

// Of writers that create one file exactly one succeeds, and the file is its data.
func TestConcurrentNewFile(t *testing.T) {
	each(t, func(t *testing.T) {
		for range 10 {
			dir := t.TempDir()
			data, errs := concurrently(8, func(data []byte) error { return WriteNewFile(filepath.Join(dir, "f"), data) })
			winner := -1
			for i, err := range errs {
				switch {
				case err != nil:
					refused(t, err, "already exists")
				case winner >= 0:
					t.Errorf("writers %d and %d both succeeded", winner, i)
				default:
					winner = i
				}
			}
			if winner < 0 {
				t.Fatalf("none succeeded: %v", errs)
			}
			wantTree(t, dir, map[string]string{"f": data[winner]})
		}
	})
}

// A writer that panics leaves nothing.
func TestPanic(t *testing.T) {
	dir := t.TempDir()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		write(filepath.Join(dir, "f"), []byte("x"), nil, func(string, string) error { panic("stop") })
	}()
	wantTree(t, dir, nil)
}

func TestPublishDir(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	must(t, os.Mkdir(out, 0o777))
	put(t, out, "f", "x")
	put(t, dir, "file", "precious")
	must(t, os.Symlink("nowhere", filepath.Join(dir, "link")))
	must(t, os.Mkdir(filepath.Join(dir, "full"), 0o777))
	put(t, filepath.Join(dir, "full"), "x", "precious")
	must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o777))
	before := tree(t, dir)
	for _, name := range []string{"file", "link", "full"} {
		if PublishDir(out, filepath.Join(dir, name)) == nil {
			t.Errorf("%s was replaced", name)
		}
	}
	wantTree(t, dir, before)
	wantTree(t, filepath.Join(dir, "full"), map[string]string{"x": "precious"})
	must(t, PublishDir(out, filepath.Join(dir, "empty")))
	wantTree(t, filepath.Join(dir, "empty"), map[string]string{"f": "x"})
}

// A file system that is too small is ENOSPC, with a hint.
func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	must(t, CheckFree(dir, -1))
	must(t, CheckFree(dir, 1))
	err := fault.Writing(dir, CheckFree(dir, 1<<62))
	var fe *fault.Error
	if !errors.As(err, &fe) || !errors.Is(err, syscall.ENOSPC) || fe.Hint == "" || !strings.Contains(err.Error(), "no space left: needs 4,611,686,018,427,387,904 more bytes") {
		t.Errorf("%v", err)
	}
}

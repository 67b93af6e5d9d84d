package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"afmq/internal/disk"
	"afmq/pkg/fault"
)

const job = `{"bits":4,"files":{"config.json":"abc"}}`

func open(t *testing.T, target string, opts Options) *Dir {
	t.Helper()
	d, err := Open(target, []byte(job), opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree returns the files under dir with their content. Names of directories end in a slash.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		name = filepath.ToSlash(name)
		if e.IsDir() {
			out[name+"/"] = ""
			return nil
		}
		if e.Type() == fs.ModeSymlink {
			out[name], err = os.Readlink(path)
			return err
		}
		data, err := os.ReadFile(path)
		out[name] = string(data)
		return err
	}))
	return out
}

func wantTree(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("%s holds %q, expected %q", dir, got, want)
	}
}

// work does the work of a run: two files, each with a record in the journal.
func work(d *Dir) error {
	j, err := d.Journal()
	if err != nil {
		return err
	}
	for i := len(j.Records()); i < 2; i++ {
		if err := d.WriteFile(fmt.Sprintf("f%d", i), []byte(strings.Repeat("x", i+1))); err != nil {
			return err
		}
		if err := j.Append(map[string]int{"done": i}); err != nil {
			return err
		}
	}
	return nil
}

var made = map[string]string{"t/": "", "t/f0": "x", "t/f1": "xx"}

func TestCommit(t *testing.T) {
	for name, prepare := range map[string]func(target string) error{
		"new":   func(string) error { return nil },
		"empty": func(target string) error { return os.Mkdir(target, 0o777) },
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			must(t, prepare(filepath.Join(parent, "t")))
			d := open(t, filepath.Join(parent, "t")+"/", Options{})
			if d.Resumed() {
				t.Error("nothing was there to resume")
			}
			must(t, d.End(work(d)))
			wantTree(t, parent, made)
			must(t, d.Discard())
			must(t, d.Keep())
			wantTree(t, parent, made)
			if d.Commit() == nil {
				t.Error("a second commit")
			}
		})
	}
}

// A target that cannot be created is refused with one line of the right kind, and nothing
// changes.
func TestRefusals(t *testing.T) {
	parent := t.TempDir()
	write := func(name string) string {
		path := filepath.Join(parent, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o777))
		must(t, os.WriteFile(path, []byte("precious"), 0o666))
		return path
	}
	write("full/x")
	write(".rooted.afmq")
	must(t, os.Symlink(t.TempDir(), filepath.Join(parent, ".linked.afmq")))
	before := tree(t, parent)
	for _, tc := range []struct {
		target, want string
		kind         fault.Kind
		opts         Options
	}{
		{filepath.Join(parent, "full"), "is not empty", fault.Output, Options{}},
		{filepath.Join(parent, "full"), "is not empty", fault.Output, Options{Restart: true}},
		{filepath.Join(parent, "full/x"), "is not a directory", fault.Output, Options{}},
		{filepath.Join(parent, "full/x/below/t"), "cannot be created: " + filepath.Join(parent, "full/x") + " is not a directory", fault.Output, Options{}},
		{filepath.Join(parent, "rooted"), "exists and is not a directory", fault.Output, Options{}},
		{filepath.Join(parent, "linked"), "exists and is not a directory", fault.Output, Options{}},
		{filepath.Join(parent, "large"), "no space", fault.Output, Options{NeedBytes: 1 << 60}},
		{"", "empty", fault.Usage, Options{}},
		{".", "cannot be an output", fault.Usage, Options{}},
		{"..", "cannot be an output", fault.Usage, Options{}},
		{"/", "cannot be an output", fault.Usage, Options{}},
	} {
		d, err := Open(tc.target, []byte(job), tc.opts)
		if err == nil {
			d.Discard()
		}
		if fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", tc.target, err)
		}
	}
	for _, taken := range []string{"full", "full/x"} {
		_, err := Open(filepath.Join(parent, taken), []byte(job), Options{})
		var f *fault.Error
		if !errors.As(err, &f) || !strings.Contains(f.Hint, "another --out") {
			t.Errorf("%s: error %v without the way out", taken, err)
		}
	}
	wantTree(t, parent, before)
}

// A missing parent directory is created, with its own; an error later leaves it.
func TestMissingParents(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(filepath.Join(dir, "a", "b", "t"), []byte(job), Options{})
	must(t, err)
	must(t, work(d))
	must(t, d.Commit())
	wantTree(t, dir, map[string]string{"a/": "", "a/b/": "", "a/b/t/": "", "a/b/t/f0": "x", "a/b/t/f1": "xx"})
	if _, err := Open(filepath.Join(dir, "c", "t"), []byte(job), Options{NeedBytes: 1 << 60}); fault.KindOf(err) != fault.Output {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "c")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestReadOnlyParent(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("permissions do not bind the superuser")
	}
	parent := t.TempDir()
	must(t, os.Chmod(parent, 0o555))
	if _, err := Open(filepath.Join(parent, "t"), []byte(job), Options{}); fault.KindOf(err) != fault.Output {
		t.Error(err)
	}
	wantTree(t, parent, nil)
}

// interrupted leaves the state of a run that completed one of two pieces of work.
func interrupted(t *testing.T, target string) {
	t.Helper()
	d := open(t, target, Options{})
	j, err := d.Journal()
	must(t, err)
	must(t, d.WriteFile("f0", []byte("x")))
	must(t, j.Append(map[string]int{"done": 0}))
	must(t, d.Keep())
}

func TestResume(t *testing.T) {
	parent := t.TempDir()
	target := filepath.Join(parent, "t")
	interrupted(t, target)

	// A different job neither resumes nor discards it.
	_, err := Open(target, []byte(`{"bits":2,"files":{"config.json":"abc"}}`), Options{})
	if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "bits was 4 and is now 2") {
		t.Errorf("a different job: %v", err)
	}
	d := open(t, target, Options{})
	j, err := d.Journal()
	must(t, err)
	if !d.Resumed() || len(j.Records()) != 1 || string(j.Records()[0]) != `{"done":0}` {
		t.Errorf("resumed %v with %s", d.Resumed(), j.Records())
	}
	must(t, d.End(work(d)))
	wantTree(t, parent, made)
}

func TestRestart(t *testing.T) {
	parent := t.TempDir()
	target := filepath.Join(parent, "t")
	interrupted(t, target)
	d, err := Open(target, []byte(`{"bits":2}`), Options{Restart: true})
	must(t, err)
	j, err := d.Journal()
	must(t, err)
	if d.Resumed() || len(j.Records()) != 0 {
		t.Error("a restart resumes")
	}
	if _, err := os.Stat(d.Path("f0")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a restart keeps files: %v", err)
	}
	must(t, d.Discard())
	wantTree(t, parent, nil)
}

// A run whose files were removed, or that was killed before it wrote its job, starts from
// the beginning.
func TestIncompleteState(t *testing.T) {
	for _, missing := range []string{jobName, outName} {
		parent := t.TempDir()
		target := filepath.Join(parent, "t")
		interrupted(t, target)
		must(t, os.RemoveAll(filepath.Join(parent, ".t.afmq", missing)))
		d := open(t, target, Options{})
		if d.Resumed() {
			t.Errorf("resumed without %s", missing)
		}
		must(t, d.End(work(d)))
		wantTree(t, parent, made)
	}
}

// A run that was killed between publishing and removing its staging directory leaves a
// state without out/. The next run removes it.
func TestTidy(t *testing.T) {
	parent := t.TempDir()
	target := filepath.Join(parent, "t")
	interrupted(t, target)
	must(t, os.Rename(filepath.Join(parent, ".t.afmq", outName), target))
	if _, err := Open(target, []byte(job), Options{}); fault.KindOf(err) != fault.Output {
		t.Errorf("a finished target: %v", err)
	}
	wantTree(t, parent, map[string]string{"t/": "", "t/f0": "x"})
}

// End keeps a state that can be resumed and discards one that cannot.
func TestEnd(t *testing.T) {
	for _, tc := range []struct {
		err  error
		keep bool
	}{
		{fault.Usagef("x"), false}, {fault.Inputf("f", "x"), false}, {fault.Infeasiblef("x"), false},
		{fault.Writing("f", errors.New("x")), true}, {errors.New("x"), true},
	} {
		for _, record := range []bool{false, true} {
			parent := t.TempDir()
			d := open(t, filepath.Join(parent, "t"), Options{})
			j, err := d.Journal()
			must(t, err)
			must(t, d.WriteFile("f", []byte("x")))
			if record {
				must(t, j.Append(1))
			}
			if err := d.End(tc.err); !errors.Is(err, tc.err) {
				t.Errorf("%v became %v", tc.err, err)
			}
			if kept := len(tree(t, parent)) > 0; kept != (tc.keep && record) {
				t.Errorf("%v, record %v: state kept %v", tc.err, record, kept)
			}
		}
	}
	parent := t.TempDir()
	d := open(t, filepath.Join(parent, "t"), Options{})
	must(t, os.WriteFile(d.StatePath("optimizer"), []byte("x"), 0o666))
	must(t, d.Keep())
	if len(tree(t, parent)) == 0 {
		t.Error("a state without records is lost")
	}
}

// A directory that was filled meanwhile is not touched, and an incomplete file is not
// published.
func TestCommitRefuses(t *testing.T) {
	parent := t.TempDir()
	target := filepath.Join(parent, "t")
	d := open(t, target, Options{})
	must(t, work(d))
	incomplete := disk.StagedPath(d.Path("w"))
	must(t, os.WriteFile(incomplete, nil, 0o666))
	if err := d.Commit(); err == nil || !strings.Contains(err.Error(), ".w.afmq-partial is incomplete") {
		t.Errorf("an incomplete file: %v", err)
	}
	must(t, os.Remove(incomplete))
	must(t, os.Mkdir(target, 0o777))
	must(t, os.WriteFile(filepath.Join(target, "x"), []byte("precious"), 0o666))
	if err := d.End(nil); fault.KindOf(err) != fault.Output {
		t.Errorf("a target that was filled: %v", err)
	}
	got := tree(t, parent)
	if got["t/x"] != "precious" || got[".t.afmq/out/f1"] != "xx" {
		t.Errorf("left is %q", got)
	}
}

// A file or link that appears at the target stays, and the run can be resumed once it is
// removed.
func TestTargetAppears(t *testing.T) {
	for name, put := range map[string]func(target string) error{
		"file": func(target string) error { return os.WriteFile(target, []byte("precious"), 0o666) },
		"link": func(target string) error { return os.Symlink("nowhere", target) },
	} {
		for _, file := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, file %v", name, file), func(t *testing.T) {
				parent := t.TempDir()
				target := filepath.Join(parent, "t")
				end := func(d *Dir) error {
					if err := work(d); err != nil || !file {
						return d.End(err)
					}
					return d.CommitFile([]byte("whole"))
				}
				d := open(t, target, Options{File: file})
				must(t, put(target))
				before := tree(t, parent)["t"]
				err := end(d)
				if fault.KindOf(err) != fault.Output || strings.Contains(err.Error(), "\n") {
					t.Errorf("published: %v", err)
				}
				if file {
					must(t, d.Keep())
				}
				if after := tree(t, parent)["t"]; after != before || before == "" {
					t.Errorf("the target was %q and is %q", before, after)
				}
				if _, err := Open(target, []byte(job), Options{File: file}); fault.KindOf(err) != fault.Output {
					t.Errorf("again: %v", err)
				}
				must(t, os.Remove(target))
				d = open(t, target, Options{File: file})
				if !d.Resumed() {
					t.Error("the work is lost")
				}
				must(t, end(d))
				want := made
				if file {
					want = map[string]string{"t": "whole"}
				}
				wantTree(t, parent, want)
			})
		}
	}
}

// Temporary files of killed runs are not published and do not stop a later run.
func TestLeftovers(t *testing.T) {
	const temp = ".f0.afmq-0123456789abcdef"
	for _, commit := range []bool{true, false} {
		parent := t.TempDir()
		target := filepath.Join(parent, "t")
		interrupted(t, target)
		root := filepath.Join(parent, ".t.afmq")
		for _, dir := range []string{root, filepath.Join(root, outName), filepath.Join(root, outName, "sub")} {
			must(t, os.MkdirAll(dir, 0o777))
			must(t, os.WriteFile(filepath.Join(dir, temp), []byte("torn"), 0o666))
		}
		d := open(t, target, Options{})
		if commit {
			must(t, d.End(work(d)))
			must(t, os.Remove(filepath.Join(target, "sub")))
			wantTree(t, parent, made)
		} else {
			must(t, d.Discard())
			wantTree(t, parent, nil)
		}
	}
}

// A state with a symbolic link in place of a directory is not resumed: nothing is written
// through the link.
func TestLinkedState(t *testing.T) {
	for _, name := range []string{outName, stateName} {
		parent, elsewhere := t.TempDir(), t.TempDir()
		target := filepath.Join(parent, "t")
		interrupted(t, target)
		must(t, os.WriteFile(filepath.Join(elsewhere, "f0"), []byte("precious"), 0o666))
		must(t, os.RemoveAll(filepath.Join(parent, ".t.afmq", name)))
		must(t, os.Symlink(elsewhere, filepath.Join(parent, ".t.afmq", name)))
		d := open(t, target, Options{})
		if d.Resumed() {
			t.Errorf("resumed with a link %s", name)
		}
		must(t, d.End(work(d)))
		wantTree(t, parent, made)
		wantTree(t, elsewhere, map[string]string{"f0": "precious"})
	}
}

func TestWriteFileNames(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "t"), Options{})
	defer d.Discard()
	for _, name := range []string{"", ".", "..", "a/b", "../a", "/a"} {
		if d.WriteFile(name, nil) == nil {
			t.Errorf("%q was written", name)
		}
	}
}

// A damaged end of the journal is discarded, and new records follow the valid ones.
func TestJournalDamage(t *testing.T) {
	for name, tc := range map[string]struct {
		damage string
		want   []string
	}{
		"torn":       {"1\n{\"a\":", []string{"1"}},
		"no newline": {"1\n2", []string{"1"}},
		"zeros":      {"1\n\x00\x00\x00\x00", []string{"1"}},
		"not JSON":   {"1\nx\n2\n", []string{"1"}},
		"empty line": {"1\n\n2\n", []string{"1"}},
		"all":        {"x", nil},
		"whole":      {"1\n2\n", []string{"1", "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "t")
			interrupted(t, target)
			d := open(t, target, Options{})
			must(t, os.WriteFile(d.sub(journalName), []byte(tc.damage), 0o666))
			j, err := d.Journal()
			must(t, err)
			must(t, j.Append("new"))
			must(t, d.Keep())
			d = open(t, target, Options{})
			j, err = d.Journal()
			must(t, err)
			var got []string
			for _, r := range j.Records() {
				got = append(got, string(r))
			}
			if want := append(tc.want, `"new"`); !slices.Equal(got, want) {
				t.Errorf("records %q, expected %q", got, want)
			}
			must(t, d.Discard())
		})
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte("1\n{\"a\":2}\n"))
	f.Add([]byte("1\n\x00\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, whole := parseJournal(data)
		again, n := parseJournal(data[:whole])
		if n != whole || len(again) != len(records) {
			t.Fatalf("%d records in %d bytes, then %d in %d", len(records), whole, len(again), n)
		}
	})
}

// The difference is one line, whatever the job file contains.
func FuzzDifference(f *testing.F) {
	f.Add([]byte(job), []byte(`{"bits":2}`))
	f.Add([]byte(`{"a":{"b":null},"c":[1]}`), []byte("[]"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if s := Difference(a, b, []Name{{"bits", "--bits"}, {"a", "--a"}, {"a.b", "--b"}}); s == "" || strings.Contains(s, "\n") {
			t.Fatalf("%q", s)
		}
	})
}

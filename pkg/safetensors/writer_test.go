package safetensors

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/pkg/fault"
)

// plan is a file of five tensors, two of them without data.
var plan = []Info{{"a", F32, []int{3}}, {"none", U8, []int{0, 7}}, {"b", F16, []int{2, 2}}, {"c", U8, []int{5}}, {"last", I8, []int{0}}}

func planData(i int) []byte {
	n, _ := plan[i].Bytes()
	return bytes.Repeat([]byte{byte(i + 1)}, int(n))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// wholePlan returns the bytes of the finished file.
func wholePlan(t testing.TB) []byte {
	path := filepath.Join(t.TempDir(), "w")
	data := make([][]byte, len(plan))
	for i := range plan {
		data[i] = planData(i)
	}
	writeFile(t, path, plan, data...)
	return read(t, path)
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, expected %q", dir, got, want)
	}
}

func TestCreateRefuses(t *testing.T) {
	for name, infos := range map[string][]Info{
		"duplicate": {{"a", U8, []int{1}}, {"a", U8, []int{1}}},
		"metadata":  {{"__metadata__", U8, []int{1}}},
		"no type":   {{"a", 0, []int{1}}},
		"negative":  {{"a", U8, []int{-1}}},
		"overflow":  {{"a", F64, []int{1 << 31, 1 << 31}}},
		"sum":       {{"a", U8, []int{1 << 62}}, {"b", U8, []int{1 << 62}}},
		"not UTF-8": {{"\xff", U8, []int{1}}},
	} {
		dir := t.TempDir()
		if _, err := Create(filepath.Join(dir, "w"), infos, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, _, err := FileSize(infos, nil); err == nil {
			t.Errorf("%s: has a size", name)
		}
		wantNames(t, dir)
	}
	if _, err := Create(filepath.Join(t.TempDir(), "no", "w"), plan, nil); fault.KindOf(err) != fault.Output {
		t.Errorf("a directory that is missing: %v", err)
	}
	dir := t.TempDir()
	if _, err := Create(filepath.Join(dir, "w"), []Info{{"a", U8, []int{1 << 60}}}, nil); fault.KindOf(err) != fault.Output {
		t.Errorf("more than any disk has: %v", err)
	}
	wantNames(t, dir)
}

func TestFileSize(t *testing.T) {
	header, total, err := FileSize(plan, nil)
	must(t, err)
	if n := int64(len(wholePlan(t))); n != total || header != total-12-8-5 {
		t.Errorf("header %d, total %d; the file has %d", header, total, n)
	}
}

// A tensor out of order, of the wrong size or after the last one is refused, and a file
// without all its tensors is not published.
func TestWriteOrder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w")
	w, err := Create(path, plan, nil)
	must(t, err)
	refuse := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	refuse("another tensor", w.Write("b", planData(2)))
	refuse("too short", w.Write("a", make([]byte, 11)))
	refuse("too long", w.Write("a", make([]byte, 13)))
	refuse("a chunk beyond the end", w.Append(make([]byte, 13)))
	refuse("unfinished", w.Close())
	must(t, w.Append(planData(0)[:5]))
	refuse("another before the end", w.Write("b", planData(2)))
	refuse("the same before the end", w.Write("a", planData(0)))
	must(t, w.Append(planData(0)[5:]))
	if w.Done() != 2 {
		t.Errorf("%d tensors done, expected the first and the empty one", w.Done())
	}
	must(t, w.Write("none", nil))
	refuse("a tensor again", w.Write("a", planData(0)))
	must(t, w.Write("b", planData(2)))
	must(t, w.Write("c", planData(3)))
	refuse("beyond the last", w.Append([]byte{1}))
	refuse("a name beyond the last", w.Write("d", []byte{1}))
	wantNames(t, dir, ".w.afmq-partial")
	must(t, w.Close())
	refuse("after the end", w.Append([]byte{1}))
	must(t, w.Abort())
	wantNames(t, dir, "w")
	if !bytes.Equal(read(t, path), wholePlan(t)) {
		t.Error("the refused calls left something in the file")
	}
}

func TestAbort(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w")
	must(t, os.WriteFile(path, []byte("old"), 0o666))
	w, err := Create(path, plan, nil)
	must(t, err)
	must(t, w.Write("a", planData(0)))
	must(t, w.Abort())
	must(t, w.Abort())
	wantNames(t, dir, "w")
	if string(read(t, path)) != "old" {
		t.Error("the old file changed")
	}
	if w.Write("b", planData(2)) == nil || w.Close() == nil {
		t.Error("an aborted file goes on")
	}
}

// A file left after any number of tensors, with garbage after them or already renamed, is
// continued to the same bytes.
func TestResume(t *testing.T) {
	want := wholePlan(t)
	for done := 0; done <= len(plan); done++ {
		for _, renamed := range []bool{false, true} {
			dir := t.TempDir()
			path := filepath.Join(dir, "w")
			w, err := Create(path, plan, nil)
			must(t, err)
			for i := range done {
				must(t, w.Write(plan[i].Name, planData(i)))
			}
			if w.Done() < len(plan) {
				must(t, w.Append([]byte{99, 99})) // the start of a tensor without a record
			}
			must(t, w.Keep())
			if renamed {
				must(t, os.Rename(StagedPath(path), path))
			}
			w, err = Resume(path, plan, nil, done)
			must(t, err)
			for i := w.Done(); i < len(plan); i++ {
				must(t, w.Write(plan[i].Name, planData(i)))
			}
			must(t, w.Close())
			wantNames(t, dir, "w")
			if !bytes.Equal(read(t, path), want) {
				t.Errorf("resumed after %d: other bytes", done)
			}
		}
	}
}

// The staged file is the writer's own: a user's file of a similar name survives, a link is
// not followed, and a second writer is refused.
func TestStagedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w")
	must(t, os.WriteFile(path+".partial", []byte("mine"), 0o666))
	victim := filepath.Join(dir, "x")
	must(t, os.WriteFile(victim, []byte("precious"), 0o666))
	must(t, os.Symlink("x", StagedPath(path)))
	if _, err := Create(path, plan, nil); fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a link at the staged path: %v", err)
	}
	must(t, os.Remove(StagedPath(path)))
	must(t, os.Symlink("x", path))
	w, err := Create(path, plan, nil)
	must(t, err)
	if _, err := Create(path, plan, nil); fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second writer: %v", err)
	}
	if _, err := Resume(path, plan, nil, 0); fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second writer that resumes: %v", err)
	}
	for i := range plan {
		must(t, w.Write(plan[i].Name, planData(i)))
	}
	must(t, w.Close())
	wantNames(t, dir, "w", "w.partial", "x")
	if !bytes.Equal(read(t, path), wholePlan(t)) || string(read(t, path+".partial")) != "mine" || string(read(t, victim)) != "precious" {
		t.Error("another file was written to")
	}
	// A finished file is taken back only if it is a file, not a link to one.
	must(t, os.Rename(path, filepath.Join(dir, "y")))
	must(t, os.Symlink("y", path))
	if _, err := Resume(path, plan, nil, 1); fault.KindOf(err) != fault.Output {
		t.Errorf("a link to a finished file: %v", err)
	}
	wantNames(t, dir, "w", "w.partial", "x", "y")
}

// Many writers of one path at once: the file is the whole data of one of them.
func TestConcurrentWriters(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		path := filepath.Join(dir, "w")
		errs := make(chan error)
		for i := range 6 {
			go func() {
				data := bytes.Repeat([]byte{byte(i)}, 1<<16)
				w, err := Create(path, []Info{{"a", U8, []int{len(data)}}}, nil)
				for chunk := range 16 {
					if err == nil {
						err = w.Append(data[chunk<<12:][:1<<12])
					}
				}
				if err == nil {
					err = w.Close()
				}
				errs <- err
			}()
		}
		done := 0
		for range 6 {
			err := <-errs
			switch {
			case err == nil:
				done++
			case fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), "in use by another process"):
				t.Error(err)
			}
		}
		wantNames(t, dir, "w")
		data := read(t, path)
		if body := data[len(data)-1<<16:]; done == 0 || bytes.Count(body, body[:1]) != len(body) {
			t.Errorf("%d writers succeeded; the data is not that of one of them", done)
		}
	}
}

func TestResumeRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w")
	if _, err := Resume(path, plan, nil, 1); fault.KindOf(err) != fault.Input {
		t.Errorf("nothing there: %v", err)
	}
	w, err := Create(path, plan, nil)
	must(t, err)
	must(t, w.Write("a", planData(0)))
	must(t, w.Keep())
	before := read(t, StagedPath(path))
	if _, err := Resume(path, plan, nil, 4); fault.KindOf(err) != fault.Input {
		t.Errorf("shorter than the record says: %v", err)
	}
	if _, err := Resume(path, plan, map[string]string{"format": "pt"}, 1); fault.KindOf(err) != fault.Input {
		t.Errorf("another header: %v", err)
	}
	for _, n := range []int{-1, len(plan) + 1} {
		if _, err := Resume(path, plan, nil, n); err == nil {
			t.Errorf("%d tensors done", n)
		}
	}
	if !bytes.Equal(read(t, StagedPath(path)), before) {
		t.Error("a refused file changed")
	}
}

// checkpointFiles writes shards, given by file name, and an index if it is not empty.
func checkpointFiles(t *testing.T, shards map[string][]Info, index string) string {
	t.Helper()
	dir := t.TempDir()
	for name, infos := range shards {
		data := make([][]byte, len(infos))
		for i, x := range infos {
			n, err := x.Bytes()
			must(t, err)
			data[i] = make([]byte, n)
		}
		writeFile(t, filepath.Join(dir, name), infos, data...)
	}
	if index != "" {
		must(t, os.WriteFile(filepath.Join(dir, indexName), []byte(index), 0o666))
	}
	return dir
}

var (
	shardA = []Info{{"a", U8, []int{2}}, {"b", U8, []int{3}}}
	shardB = []Info{{"c", F32, []int{1}}}
)

const goodIndex = `{"metadata": {"total_size": 1}, "weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}`

func TestCheckpoint(t *testing.T) {
	dir := checkpointFiles(t, map[string][]Info{"1.safetensors": shardA, "2.safetensors": shardB}, goodIndex)
	// Hub caches are made of symbolic links.
	moved := filepath.Join(t.TempDir(), "blob")
	must(t, os.Rename(filepath.Join(dir, "2.safetensors"), moved))
	must(t, os.Symlink(moved, filepath.Join(dir, "2.safetensors")))
	c, err := OpenCheckpoint(dir)
	must(t, err)
	defer c.Close()
	if got := strings.Join(c.Names(), " "); got != "a b c" {
		t.Errorf("names %s", got)
	}
	if x, ok := c.Tensor("c"); !ok || x.DType != F32 || x.Path() != filepath.Join(dir, "2.safetensors") {
		t.Errorf("tensor c: %+v", x)
	}
	if _, ok := c.Tensor("d"); ok {
		t.Error("tensor d is there")
	}
	size := int64(0)
	for _, path := range c.Files() {
		size += int64(len(read(t, path)))
	}
	if len(c.Files()) != 2 || c.Bytes() != size {
		t.Errorf("%d bytes in %v", c.Bytes(), c.Files())
	}
	must(t, c.Check())
}

func TestCheckpointRefuses(t *testing.T) {
	two := map[string][]Info{"1.safetensors": shardA, "2.safetensors": shardB}
	for name, tc := range map[string]struct {
		shards      map[string][]Info
		index, want string
	}{
		"nothing":          {nil, "", "has neither"},
		"missing shard":    {map[string][]Info{"1.safetensors": shardA}, goodIndex, "2.safetensors: shard is missing"},
		"missing tensor":   {two, strings.Replace(goodIndex, `"c"`, `"d": "2.safetensors", "c"`, 1), `tensor "d" is missing`},
		"not in the index": {two, strings.Replace(goodIndex, `"a": "1.safetensors", `, ``, 1), `tensor "a" is not in`},
		"in both":          {map[string][]Info{"1.safetensors": shardA, "2.safetensors": {{"c", F32, []int{1}}, {"a", U8, []int{2}}}}, goodIndex, `tensor "a" is also in 1.safetensors`},
		"wrong shard":      {two, strings.Replace(goodIndex, `"a": "1`, `"a": "2`, 1), `tensor "a" is in 1.safetensors, not in 2.safetensors`},
		"out of the way":   {two, strings.Replace(goodIndex, `"c": "2`, `"c": "../2`, 1), "not a plain file name"},
		"absolute":         {two, strings.Replace(goodIndex, `"c": "2`, `"c": "/2`, 1), "not a plain file name"},
		"no map":           {two, `{"metadata": {}}`, "no weight_map"},
		"a list":           {two, `[]`, "expected '{'"},
		"torn":             {two, goodIndex[:60], ""},
		"twice":            {two, strings.Replace(goodIndex, `"c"`, `"a": "2.safetensors", "c"`, 1), "duplicate tensor"},
	} {
		dir := checkpointFiles(t, tc.shards, tc.index)
		c, err := OpenCheckpoint(dir)
		if err == nil {
			c.Close()
		}
		if fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), dir) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := checkpointFiles(t, two, goodIndex)
	must(t, os.Symlink("nowhere", filepath.Join(dir, singleName)))
	if _, err := OpenCheckpoint(dir); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a link to nothing: %v", err)
	}
	if _, err := OpenCheckpoint(filepath.Join(dir, "1.safetensors")); fault.KindOf(err) != fault.Input {
		t.Errorf("a file: %v", err)
	}
	if _, err := OpenCheckpoint(filepath.Join(dir, "no")); fault.KindOf(err) != fault.Input || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

// A file that is truncated while it is mapped gives an error with its name in every
// goroutine that reads it, and never ends the process.
func TestTruncatedWhileOpen(t *testing.T) {
	const n = 1 << 20
	path := filepath.Join(t.TempDir(), "w")
	writeFile(t, path, []Info{{"w", F32, []int{n}}}, make([]byte, 4*n))
	f, err := Open(path)
	must(t, err)
	defer f.Close()
	x, _ := f.Tensor("w")
	must(t, os.Truncate(path, 3*n))
	errs := make(chan error)
	for i := range 4 {
		go func() {
			errs <- Guard(path, func() error { return x.Float32(make([]float32, n/2), i%2*n/2) })
		}()
	}
	for range 4 {
		if err := <-errs; fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("got %v", err)
		}
	}
}

// A mapped file that is truncated while the system copies it to another file is to blame, not the
// other file.
func TestTruncatedWhileCopied(t *testing.T) {
	const n = 1 << 20
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "w"), filepath.Join(dir, "copy")
	writeFile(t, path, []Info{{"w", F32, []int{n}}}, make([]byte, 4*n))
	f, err := Open(path)
	must(t, err)
	defer f.Close()
	x, _ := f.Tensor("w")
	to, err := os.Create(copied)
	must(t, err)
	defer to.Close()
	must(t, os.Truncate(path, n))
	err = Guard(path, func() error {
		_, err := to.Write(x.Bytes()[2*n:])
		return fault.Writing(copied, err)
	})
	if fault.KindOf(err) != fault.Input || !strings.HasPrefix(err.Error(), path+": ") {
		t.Errorf("got %v", err)
	}
}

// FuzzHeader: a file that is accepted can be read to the last byte and written again with
// the same tensors.
func FuzzHeader(f *testing.F) {
	for _, v := range readVerdicts(f) {
		if len(v.file) < 4096 {
			f.Add(v.file)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		must(t, os.WriteFile(path, data, 0o666))
		x, err := Open(path)
		if err != nil {
			if fault.KindOf(err) != fault.Input || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v", err)
			}
			return
		}
		defer x.Close()
		walk(t, x)
		var infos []Info
		var contents [][]byte
		for _, name := range x.Names() {
			y, _ := x.Tensor(name)
			infos, contents = append(infos, Info{y.Name, y.DType, y.Shape}), append(contents, y.Bytes())
		}
		again := filepath.Join(dir, "again")
		w, err := Create(again, infos, x.Metadata())
		must(t, err)
		for i, info := range infos {
			must(t, w.Write(info.Name, contents[i]))
		}
		must(t, w.Close())
		z, err := Open(again)
		must(t, err)
		defer z.Close()
		for _, name := range x.Names() {
			a, _ := x.Tensor(name)
			b, ok := z.Tensor(name)
			if !ok || a.DType != b.DType || !bytes.Equal(a.Bytes(), b.Bytes()) {
				t.Fatalf("tensor %q changed", name)
			}
		}
	})
}

// FuzzIndex: an index that is accepted has only plain file names.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(goodIndex))
	f.Add([]byte(`{"weight_map": {"a": "..\\x"}}`))
	f.Add([]byte(`{"x": [[{}]], "weight_map": {"\u0061": "1"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := parseIndex(data)
		if err != nil {
			return
		}
		for _, s := range x.shards {
			if filepath.Base(s) != s || s == ".." || s == "." {
				t.Fatalf("shard %q", s)
			}
		}
	})
}

// BenchmarkOpen opens a file with 1000 tensors.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "w")
	var infos []Info
	var data [][]byte
	for i := range 1000 {
		infos = append(infos, Info{strings.Repeat("layer.", 5) + string(rune('a'+i%26)) + strings.Repeat("x", i/26), F16, []int{4, 4}})
		data = append(data, make([]byte, 32))
	}
	writeFile(b, path, infos, data...)
	for b.Loop() {
		f, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

package infile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"afmq/pkg/fault"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, content := range []string{"", "x", strings.Repeat("long", 1<<16)} {
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		data, err := Read(path, int64(len(content)))
		if err != nil || string(data) != content || cap(data) != len(data) {
			t.Errorf("%d bytes: %d with capacity %d, %v", len(content), len(data), cap(data), err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("f", link); err != nil {
		t.Skip(err)
	}
	if data, err := Read(link, 1<<20); err != nil || len(data) != 4<<16 {
		t.Errorf("through a link: %d bytes, %v", len(data), err)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("12345"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path, want string
		limit      int64
	}{
		{dir, "is not a regular file", 9},
		{path, "has 5 bytes; at most 4 are read", 4},
		{filepath.Join(dir, "none"), "cannot be read", 9},
		{filepath.Join(path, "below"), "cannot be read", 9},
		{filepath.Join(dir, "a\x00b"), "cannot be read", 9},
	} {
		_, err := Read(tc.path, tc.limit)
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v", tc.path, err)
		}
	}
	if _, err := Read(filepath.Join(dir, "none"), 9); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

// Two looks at a file see a write to it, and another file in its place, even of the same
// size.
func TestSame(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	look := func(content string, at time.Time) fs.FileInfo {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	then := time.Unix(1e9, 0)
	first := look("one", then)
	if !Same(first, look("one", then)) {
		t.Error("the same file differs")
	}
	if Same(first, look("longer", then)) || Same(first, look("two", then.Add(time.Millisecond))) {
		t.Error("a write is not seen")
	}
	old := filepath.Join(dir, "old") // keeps the number of the file from being used again
	if err := os.Rename(path, old); err != nil {
		t.Fatal(err)
	}
	if Same(first, look("one", then)) {
		t.Error("another file is not seen")
	}
}

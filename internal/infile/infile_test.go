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
		{dir, "is a directory; expected a file", 9},
		{path, "has 5 bytes; the limit is 4", 4},
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
		t.Errorf("a missing file: %v", err)
	}
}

// Same detects a write to the file, and another file of the same size in its place.
func TestSame(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	state := func(content string, at time.Time) fs.FileInfo {
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
	first := state("one", then)
	if !Same(first, state("one", then)) {
		t.Error("the same file differs")
	}
	if Same(first, state("longer", then)) || Same(first, state("two", then.Add(time.Millisecond))) {
		t.Error("a write is not seen")
	}
	old := filepath.Join(dir, "old") // keeps the inode number from being reused
	if err := os.Rename(path, old); err != nil {
		t.Fatal(err)
	}
	if Same(first, state("one", then)) {
		t.Error("another file is not seen")
	}
}

package infile

import (
	"bytes"
	"io"

	"afmq/pkg/fault"
)

// A Git LFS pointer is a text file of at most maxPointer bytes that stands for a large file in
// a repository that was cloned without it. Its first line is the version (git-lfs, docs/spec.md).
const (
	pointerStart = "version https://git-lfs.github.com/spec/v1\n"
	maxPointer   = 1024
)

// refusePointer returns an error if the file of size bytes at path is a Git LFS pointer.
func refusePointer(path string, r io.ReaderAt, size int64) error {
	if size < int64(len(pointerStart)) || size > maxPointer {
		return nil
	}
	start := make([]byte, len(pointerStart))
	if _, err := r.ReadAt(start, 0); err == nil && bytes.Equal(start, []byte(pointerStart)) {
		return fault.Inputf(path, "is a Git LFS pointer, not the file itself").
			WithHint("run `git lfs pull` in its repository, or download the file")
	}
	return nil
}

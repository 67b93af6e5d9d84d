// Package infile opens and reads input files that the user names.
//
// Such a path may be a named pipe without a writer, which would block forever, an endless
// device, a directory, or a file that grows while it is read. This package therefore reads
// only regular files, allocates no more than the size of the file, and returns an error if
// the file changes meanwhile. It follows symbolic links, which the caches of model hubs
// consist of. All errors are of kind fault.Input and name the file; for a missing file
// errors.Is(err, fs.ErrNotExist) is true.
package infile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"afmq/pkg/fault"
)

// Open opens the regular file at path for reading and returns its state. A Git LFS pointer in
// place of the file is an error.
func Open(path string) (*os.File, fs.FileInfo, error) {
	// Opening a device can have side effects, and opening a pipe waits for a writer. So check
	// first, and open without blocking in case the path is replaced in between.
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return nil, nil, fault.Inputf(path, "is a directory; expected a file")
	}
	if err == nil && !info.Mode().IsRegular() {
		return nil, nil, fault.Inputf(path, "is not a regular file")
	}
	if err != nil {
		return nil, nil, fault.Reading(path, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fault.Reading(path, err)
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = fault.Inputf(path, "is not a regular file")
	}
	if err == nil {
		err = refusePointer(path, f, info.Size())
	}
	if err != nil {
		f.Close()
		return nil, nil, fault.Reading(path, err)
	}
	return f, info, nil
}

// Read returns the content of the regular file at path, which may have at most limit
// bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, info, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit || int64(int(info.Size())) != info.Size() {
		return nil, fault.Inputf(path, "has %d bytes; the limit is %d", info.Size(), limit)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, Changed(path)
	} else if err != nil {
		return nil, fault.Reading(path, err)
	}
	now, err := f.Stat()
	if err != nil {
		return nil, fault.Reading(path, err)
	}
	if !Same(info, now) {
		return nil, Changed(path)
	}
	return data, nil
}

// Hash returns the SHA-256 of the regular file at path in hexadecimal.
func Hash(path string) (string, error) {
	f, before, err := Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, before.Size())); err != nil {
		return "", fault.Reading(path, err)
	}
	after, err := f.Stat()
	if err != nil {
		return "", fault.Reading(path, err)
	}
	if !Same(before, after) {
		return "", Changed(path)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Same reports whether two states are of one file that was not written to in between.
func Same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// Changed returns the error for a file that changed while it was read.
func Changed(path string) error {
	return fault.Inputf(path, "was written to or replaced while it was being read")
}

// ReadBounded returns the content of a file of at most limit bytes. A file that is missing,
// larger or cannot be read is an error of kind fault.Input.
func ReadBounded(path string, limit int64) ([]byte, error) {
	data, err := Read(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Inputf(path, "is missing")
	}
	return data, err
}

// IsSHA256 reports whether s is a SHA-256 in lower-case hex.
func IsSHA256(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}

// SHA256 returns the SHA-256 of data in lower-case hex.
func SHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

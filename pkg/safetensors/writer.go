package safetensors

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"afmq/internal/disk"
	"afmq/pkg/fault"
)

// StagedPath returns the path of the staged file of path: of the unfinished file that a
// Writer writes.
func StagedPath(path string) string { return disk.StagedPath(path) }

// Writer writes one safetensors file, tensor by tensor, without buffering. It must not
// be used concurrently. Errors of the file system are of kind fault.Output. After an
// error only Keep and Abort have an effect.
type Writer struct {
	path string   // of the finished file
	file *os.File // the staged file; nil once closed
	*layout
	done int   // tensors completely written
	at   int64 // offset of the next byte
	err  error // the first error
	over bool  // published or aborted
}

// Create starts a file whose tensors are written in the order of infos. Until Close it is
// staged at StagedPath(path), in place of a staged file that another process left there.
// A second writer of the same path is refused while this one is at work, except on a file
// system without locks. The header is written and the space for the whole file reserved
// before Create returns; a file that cannot fit is refused, and nothing is left of it.
func Create(path string, infos []Info, metadata map[string]string) (*Writer, error) {
	l, err := newLayout(infos, metadata)
	if err != nil {
		return nil, err
	}
	w := &Writer{path: path, layout: l}
	file, err := disk.CreateStaged(path)
	if err != nil {
		return nil, fault.Writing(w.staged(), err)
	}
	w.file = file
	disk.Step("created")
	if err = w.reserve(); err == nil {
		err = w.write(l.front)
	}
	if err != nil {
		w.Abort()
		return nil, err
	}
	disk.Step("header")
	w.skipEmpty()
	return w, nil
}

// Resume continues the staged file of an earlier Create with the same infos and
// metadata. Its first done tensors must be complete, which the caller knows from a
// record that it wrote after Sync; the rest of the file is discarded. If Close had
// already renamed the file to path, Resume renames it back.
//
// A staged file that is missing, is shorter than done tensors or has a different
// header is an error of kind fault.Input.
func Resume(path string, infos []Info, metadata map[string]string, done int) (*Writer, error) {
	l, err := newLayout(infos, metadata)
	if err != nil {
		return nil, err
	}
	if done < 0 || done > len(infos) {
		return nil, fmt.Errorf("safetensors: cannot resume after %d of %d tensors", done, len(infos))
	}
	w := &Writer{path: path, layout: l, done: done, at: l.end(done)}
	file, err := disk.OpenLocked(w.staged())
	if errors.Is(err, fs.ErrNotExist) {
		if file, err = disk.OpenLocked(path); err == nil {
			if err = w.checkStaged(file, path); err != nil {
				file.Close()
				return nil, err
			}
			err = disk.PublishNew(path, w.staged())
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Inputf(w.staged(), "is missing; %d of its tensors had been written", done)
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, fault.Writing(w.staged(), err)
	}
	w.file = file
	if err := w.takeUp(); err != nil {
		file.Close()
		return nil, err
	}
	w.skipEmpty()
	return w, nil
}

// checkStaged checks that file begins with the header and contains the done tensors.
func (w *Writer) checkStaged(file *os.File, path string) error {
	info, err := file.Stat()
	if err != nil {
		return fault.Reading(path, err)
	}
	if info.Size() < w.at {
		return fault.Inputf(path, "has %d bytes; its first %d tensors need %d", info.Size(), w.done, w.at)
	}
	front := make([]byte, len(w.front))
	if err := readFull(file, front, 0); err != nil {
		return fault.Reading(path, err)
	}
	if !bytes.Equal(front, w.front) {
		return fault.Inputf(path, "has the header of other tensors or other metadata")
	}
	return nil
}

// takeUp restores the staged file to its state after done tensors.
func (w *Writer) takeUp() error {
	if err := w.checkStaged(w.file, w.staged()); err != nil {
		return err
	}
	if err := w.file.Truncate(w.at); err != nil {
		return fault.Writing(w.staged(), err)
	}
	if err := w.reserve(); err != nil {
		return err
	}
	if _, err := w.file.Seek(w.at, io.SeekStart); err != nil {
		return fault.Writing(w.staged(), err)
	}
	return nil
}

func (w *Writer) staged() string { return StagedPath(w.path) }

// reserve checks that the whole file fits, before hours are spent on its content.
func (w *Writer) reserve() error {
	return fault.Writing(w.path, disk.Reserve(w.file, w.total()))
}

// write appends data to the file.
func (w *Writer) write(data []byte) error {
	n, err := w.file.Write(data)
	w.at += int64(n)
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EFAULT) {
		// The kernel could not read data: it is part of a mapped file that was truncated.
		for i := range []int{0, 1} {
			p := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
			if m := mappingAt(p + uintptr(i*max(len(data)-1, 0))); m != nil {
				return m.changed()
			}
		}
	}
	return fault.Writing(w.staged(), err)
}

// usable returns the error of an operation on w that cannot be carried out.
func (w *Writer) usable() error {
	if w.err == nil && w.file == nil {
		return fmt.Errorf("safetensors: %s: writer is closed", w.path)
	}
	return w.err
}

// skipEmpty counts the tensors that end at the current offset as written: the one just
// completed and the tensors without data that follow it.
func (w *Writer) skipEmpty() {
	for w.done < len(w.ends) && w.ends[w.done] == w.at {
		w.done++
	}
}

// Done returns how many tensors are completely written.
func (w *Writer) Done() int { return w.done }

// Write writes the next tensor, whose name must be name, from its little-endian bytes.
// The call is optional for a tensor without data.
func (w *Writer) Write(name string, data []byte) error {
	if err := w.usable(); err != nil {
		return err
	}
	if w.at != w.end(w.done) {
		return fmt.Errorf("safetensors: %s: tensor %q: tensor %q is incomplete", w.path, name, w.infos[w.done].Name)
	}
	if len(data) == 0 && w.isEmpty(name) {
		return nil
	}
	switch {
	case w.done == len(w.infos):
		return fmt.Errorf("safetensors: %s: tensor %q: all tensors are written", w.path, name)
	case w.infos[w.done].Name != name:
		return fmt.Errorf("safetensors: %s: tensor %q: expected %q", w.path, name, w.infos[w.done].Name)
	case w.ends[w.done]-w.at != int64(len(data)):
		return fmt.Errorf("safetensors: %s: tensor %q: got %d bytes, expected %d", w.path, name, len(data), w.ends[w.done]-w.at)
	}
	return w.Append(data)
}

// isEmpty reports whether name is a tensor without data at the current offset.
func (w *Writer) isEmpty(name string) bool {
	for i := w.done - 1; i >= 0 && w.end(i) == w.at; i-- {
		if w.infos[i].Name == name {
			return true
		}
	}
	return false
}

// Append writes the next bytes of the current tensor. A chunk must not extend beyond the
// end of the tensor.
func (w *Writer) Append(data []byte) error {
	if err := w.usable(); err != nil {
		return err
	}
	if len(data) == 0 {
		return nil
	}
	if w.done == len(w.ends) {
		return fmt.Errorf("safetensors: %s: %d bytes after the last tensor", w.path, len(data))
	}
	if left := w.ends[w.done] - w.at; int64(len(data)) > left {
		return fmt.Errorf("safetensors: %s: tensor %q: got %d bytes, %d remain", w.path, w.infos[w.done].Name, len(data), left)
	}
	if w.err = w.write(data); w.err != nil {
		return w.err
	}
	w.skipEmpty()
	disk.Step("appended")
	return nil
}

// Sync makes everything written so far survive a crash, so that Resume can rely on it.
func (w *Writer) Sync() error {
	if err := w.usable(); err != nil {
		return err
	}
	w.err = fault.Writing(w.staged(), w.file.Sync())
	return w.err
}

// Keep syncs and closes the staged file and leaves it for Resume.
func (w *Writer) Keep() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Sync()
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	w.file = nil
	return fault.Writing(w.staged(), err)
}

// Close publishes the file: it syncs it, renames it to the final path, replacing a file
// there, and syncs the directory. A missing tensor is an error that leaves the staged
// file for Resume or Abort.
func (w *Writer) Close() error {
	if err := w.usable(); err != nil {
		return err
	}
	if w.done < len(w.infos) {
		return fmt.Errorf("safetensors: %s: tensor %q is missing", w.path, w.infos[w.done].Name)
	}
	if err := w.Sync(); err != nil {
		return err
	}
	disk.Step("synced")
	// Renamed before it is closed, because closing releases the lock.
	if err := os.Rename(w.staged(), w.path); err != nil {
		w.err = fault.Writing(w.path, err)
		return w.err
	}
	w.over = true
	disk.Step("renamed")
	w.file.Close() // nothing is left to write after Sync
	w.file = nil
	return fault.Writing(w.path, disk.SyncDir(filepath.Dir(w.path)))
}

// Abort closes and removes the staged file. After a successful Close or an earlier Abort
// it does nothing.
func (w *Writer) Abort() error {
	if w.over {
		return nil
	}
	w.over = true
	err := os.Remove(w.staged())
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	return fault.Writing(w.staged(), err)
}

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
	"afmq/internal/fault"
)

// StagedPath returns the path of the staged file of path: of the unfinished file that a
// Writer writes.
func StagedPath(path string) string { return disk.StagedPath(path) }

// Writer writes one safetensors file, tensor after tensor, and holds none of it.
// It belongs to one goroutine. After an error, which is of kind fault.Output where
// the disk is to blame, only Keep and Abort do anything.
type Writer struct {
	path string   // of the finished file
	file *os.File // the staged one; nil once closed
	*layout
	done int   // tensors written whole
	at   int64 // offset of the next byte
	err  error // the first one
	over bool  // published or aborted
}

// Create starts a file whose tensors will follow in the order of infos. Until Close it is
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
// metadata, of which the first done tensors are known to be whole: a record of
// them was written after Sync. What follows them is dropped. A finished file at
// path, which Close had renamed before the record of that could be written, is
// taken back and goes on as a staged one.
//
// A staged file that is missing, shorter than done tensors, or that starts with
// another header is an error of kind fault.Input.
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
		return nil, fault.Inputf(w.staged(), "is missing, though %d of its tensors were written", done)
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

// checkStaged checks that file starts with the header and holds the done tensors.
func (w *Writer) checkStaged(file *os.File, path string) error {
	info, err := file.Stat()
	if err != nil {
		return fault.Reading(path, err)
	}
	if info.Size() < w.at {
		return fault.Inputf(path, "has %d bytes where its first %d tensors need %d", info.Size(), w.done, w.at)
	}
	front := make([]byte, len(w.front))
	if err := readFull(file, front, 0); err != nil {
		return fault.Reading(path, err)
	}
	if !bytes.Equal(front, w.front) {
		return fault.Inputf(path, "was started for other tensors or other metadata")
	}
	return nil
}

// takeUp puts the staged file into the state that done tensors left it in.
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

// reserve makes sure that the whole file fits before hours of work go into it.
func (w *Writer) reserve() error {
	return fault.Writing(w.path, disk.Reserve(w.file, w.total()))
}

// write writes data at the end of what is there.
func (w *Writer) write(data []byte) error {
	n, err := w.file.Write(data)
	w.at += int64(n)
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EFAULT) {
		// The system found no page behind data: a mapped file that was cut.
		for i := range []int{0, 1} {
			p := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
			if m := mappingAt(p + uintptr(i*max(len(data)-1, 0))); m != nil {
				return m.changed()
			}
		}
	}
	return fault.Writing(w.staged(), err)
}

// usable returns the error that an operation on w now has to end with.
func (w *Writer) usable() error {
	if w.err == nil && w.file == nil {
		return fmt.Errorf("safetensors: %s: write after the end", w.path)
	}
	return w.err
}

// skipEmpty passes over tensors that end where the next byte goes: the one just
// made whole, and tensors
// without data, which need no call and count as written.
func (w *Writer) skipEmpty() {
	for w.done < len(w.ends) && w.ends[w.done] == w.at {
		w.done++
	}
}

// Done returns how many tensors, from the first, are written whole.
func (w *Writer) Done() int { return w.done }

// Write writes the next tensor, which must be the one named, from its
// little-endian bytes. For a tensor without data the call may be left out.
func (w *Writer) Write(name string, data []byte) error {
	if err := w.usable(); err != nil {
		return err
	}
	if w.at != w.end(w.done) {
		return fmt.Errorf("safetensors: %s: tensor %q comes before the end of %q", w.path, name, w.infos[w.done].Name)
	}
	if len(data) == 0 && w.isEmpty(name) {
		return nil
	}
	switch {
	case w.done == len(w.infos):
		return fmt.Errorf("safetensors: %s: tensor %q comes behind the last one", w.path, name)
	case w.infos[w.done].Name != name:
		return fmt.Errorf("safetensors: %s: tensor %q comes where %q is due", w.path, name, w.infos[w.done].Name)
	case w.ends[w.done]-w.at != int64(len(data)):
		return fmt.Errorf("safetensors: %s: tensor %q: %d bytes where %d are due", w.path, name, len(data), w.ends[w.done]-w.at)
	}
	return w.Append(data)
}

// isEmpty says that name is one of the tensors without data just passed over.
func (w *Writer) isEmpty(name string) bool {
	for i := w.done - 1; i >= 0 && w.end(i) == w.at; i-- {
		if w.infos[i].Name == name {
			return true
		}
	}
	return false
}

// Append writes the next bytes of the tensor that is not whole yet, the first of
// which is that of the next tensor. A chunk may not reach beyond the tensor's end.
func (w *Writer) Append(data []byte) error {
	if err := w.usable(); err != nil {
		return err
	}
	if len(data) == 0 {
		return nil
	}
	if w.done == len(w.ends) {
		return fmt.Errorf("safetensors: %s: %d bytes behind the last tensor", w.path, len(data))
	}
	if left := w.ends[w.done] - w.at; int64(len(data)) > left {
		return fmt.Errorf("safetensors: %s: tensor %q: %d bytes where %d are left", w.path, w.infos[w.done].Name, len(data), left)
	}
	if w.err = w.write(data); w.err != nil {
		return w.err
	}
	w.skipEmpty()
	disk.Step("appended")
	return nil
}

// Sync makes what was written so far survive a crash: Resume may count on it.
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

// Close publishes the file: it syncs, renames to the final path, over what is
// there, and syncs the directory. A tensor that is missing is an error, and the
// staged file stays for Resume or Abort.
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
	// Renamed before it is closed, which gives up the lock.
	if err := os.Rename(w.staged(), w.path); err != nil {
		w.err = fault.Writing(w.path, err)
		return w.err
	}
	w.over = true
	disk.Step("renamed")
	w.file.Close() // which has nothing left to write
	w.file = nil
	return fault.Writing(w.path, disk.SyncDir(filepath.Dir(w.path)))
}

// Abort closes and removes the staged file. After Close has published it, or a
// second time, it does nothing.
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

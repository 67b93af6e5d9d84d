package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"afmq/internal/disk"
	"afmq/pkg/fault"
)

// Writer writes one GGUF file, tensor by tensor, without buffering. It must not be used
// concurrently. Errors of the file system are of kind fault.Output. After an error only Abort has
// an effect.
type Writer struct {
	path string   // of the finished file
	file *os.File // the staged file; nil once closed
	*layout
	done int   // tensors completely written
	at   int64 // offset of the next byte
	err  error // the first error
	over bool  // published or aborted
}

// Create starts a file with the given metadata and tensors, in their order. Until Close it is
// staged beside path, as docs/robustness.md describes. The header is written and the space for
// the whole file reserved before Create returns. A path that exists and a file that cannot fit are
// refused, and nothing is left of it. The alignment is that of the key general.alignment, a
// uint32, or 32.
func Create(path string, metadata []KV, infos []Info) (*Writer, error) {
	l, err := newLayout(metadata, infos)
	if err != nil {
		return nil, err
	}
	if err := disk.CheckNew(path); err != nil {
		return nil, err
	}
	w := &Writer{path: path, layout: l}
	if w.file, err = disk.CreateStaged(path); err != nil {
		return nil, fault.Writing(w.staged(), err)
	}
	disk.Step("created")
	if err = fault.Writing(path, disk.Reserve(w.file, l.total())); err == nil {
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

func (w *Writer) staged() string { return disk.StagedPath(w.path) }

// write appends data to the file.
func (w *Writer) write(data []byte) error {
	n, err := w.file.Write(data)
	w.at += int64(n)
	return fault.Writing(w.staged(), err)
}

// usable returns the error of an operation on w that cannot be carried out.
func (w *Writer) usable() error {
	if w.err == nil && w.file == nil {
		return fmt.Errorf("gguf: %s: writer is closed", w.path)
	}
	return w.err
}

// skipEmpty counts the tensors without data that come next as written.
func (w *Writer) skipEmpty() {
	for w.done < len(w.infos) && w.sizes[w.done] == 0 {
		w.done++
	}
}

// Write writes the next tensor with data, whose name must be name, from its bytes. The call is
// optional for a tensor without data.
func (w *Writer) Write(name string, data []byte) error {
	if err := w.usable(); err != nil {
		return err
	}
	if len(data) == 0 && w.isEmpty(name) {
		return nil
	}
	switch {
	case w.done == len(w.infos):
		return fmt.Errorf("gguf: %s: tensor %q: all tensors are written", w.path, name)
	case w.at != w.begins[w.done]:
		return fmt.Errorf("gguf: %s: tensor %q: tensor %q is incomplete", w.path, name, w.infos[w.done].Name)
	case w.infos[w.done].Name != name:
		return fmt.Errorf("gguf: %s: tensor %q: expected %q", w.path, name, w.infos[w.done].Name)
	case w.sizes[w.done] != int64(len(data)):
		return fmt.Errorf("gguf: %s: tensor %q: got %d bytes, expected %d", w.path, name, len(data), w.sizes[w.done])
	}
	return w.Append(data)
}

// isEmpty reports whether name is a tensor without data just before the next one.
func (w *Writer) isEmpty(name string) bool {
	for i := w.done - 1; i >= 0 && w.sizes[i] == 0; i-- {
		if w.infos[i].Name == name {
			return true
		}
	}
	return false
}

// Append writes the next bytes of the current tensor, and its padding when it is complete. A
// chunk must not extend beyond the end of the tensor.
func (w *Writer) Append(data []byte) error {
	if err := w.usable(); err != nil {
		return err
	}
	if len(data) == 0 {
		return nil
	}
	if w.done == len(w.infos) {
		return fmt.Errorf("gguf: %s: %d bytes after the last tensor", w.path, len(data))
	}
	end := w.begins[w.done] + w.sizes[w.done]
	if int64(len(data)) > end-w.at {
		return fmt.Errorf("gguf: %s: tensor %q: got %d bytes, %d remain", w.path, w.infos[w.done].Name, len(data), end-w.at)
	}
	if w.err = w.write(data); w.err != nil {
		return w.err
	}
	if w.at == end {
		if w.err = w.write(make([]byte, w.begins[w.done+1]-end)); w.err != nil {
			return w.err
		}
		w.done++
		w.skipEmpty()
	}
	disk.Step("appended")
	return nil
}

// Close publishes the file: it syncs it, renames it to the final path and syncs the directory. A
// missing tensor is an error. So is a file that appeared at the path meanwhile, which is kept;
// nothing is then left of the staged one after Abort.
func (w *Writer) Close() error {
	if err := w.usable(); err != nil {
		return err
	}
	if w.done < len(w.infos) {
		return fmt.Errorf("gguf: %s: tensor %q is missing", w.path, w.infos[w.done].Name)
	}
	if w.err = fault.Writing(w.staged(), w.file.Sync()); w.err != nil {
		return w.err
	}
	disk.Step("synced")
	// Renamed before it is closed, because closing releases the lock.
	err := disk.PublishNew(w.staged(), w.path)
	if errors.Is(err, fs.ErrExist) {
		err = disk.Taken(w.path, "already exists")
	}
	if w.err = fault.Writing(w.path, err); w.err != nil {
		return w.err
	}
	w.over = true
	disk.Step("renamed")
	w.file.Close() // nothing is left to write after Sync
	w.file = nil
	return fault.Writing(w.path, disk.SyncDir(filepath.Dir(w.path)))
}

// Abort closes and removes the staged file. After a successful Close or an earlier Abort it does
// nothing.
func (w *Writer) Abort() error {
	if w.over {
		return nil
	}
	w.over = true
	err := os.Remove(w.staged())
	w.file.Close()
	w.file = nil
	return fault.Writing(w.staged(), err)
}

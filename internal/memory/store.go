package memory

import (
	"os"
	"sync"
	"unsafe"

	"afmq/internal/disk"
	"afmq/pkg/fault"
)

// Store keeps slices of float32: on the heap up to a limit, and beyond it in mapped files of a
// directory, which vanish with the process. It is an infer.Memory. It is safe for concurrent use.
type Store struct {
	dir   string
	limit int64

	mu     sync.Mutex
	heap   int64 // bytes on the heap
	onDisk int64 // bytes in files
	files  []*mapped
}

// mapped is a slice in a file.
type mapped struct {
	data []byte
	path string // of a file that is removed at the end; empty if it is already
}

// NewStore returns a store that keeps at most limit bytes on the heap. dir is where its files are;
// empty for that of temporary files.
func NewStore(limit int64, dir string) *Store {
	if dir == "" {
		dir = os.TempDir()
	}
	return &Store{dir: dir, limit: limit}
}

// Floats returns n zeros, which are valid until [Store.Close]. Errors are fault.Output: the disk is
// full or cannot be written.
func (s *Store) Floats(n int) ([]float32, error) {
	if n == 0 {
		return nil, nil
	}
	bytes := int64(n) * 4
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heap+bytes <= s.limit {
		s.heap += bytes
		return make([]float32, n), nil
	}
	m, err := s.create(bytes)
	if err != nil {
		return nil, err
	}
	s.onDisk += bytes
	s.files = append(s.files, m)
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(m.data))), n), nil
}

// create makes a file whose disk space is reserved, and maps it.
func (s *Store) create(bytes int64) (_ *mapped, err error) {
	if err := disk.CheckFree(s.dir, bytes); err != nil {
		return nil, fault.Writing(s.dir, err)
	}
	f, err := os.CreateTemp(s.dir, ".afmq-hidden-states-*")
	if err != nil {
		return nil, fault.Writing(s.dir, err)
	}
	m := &mapped{path: f.Name()}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(m.path)
		}
	}()
	if err := f.Truncate(bytes); err != nil {
		return nil, fault.Writing(s.dir, err)
	}
	if err := fill(f, bytes); err != nil {
		return nil, fault.Writing(s.dir, err)
	}
	if m.data, err = mapShared(f, int(bytes)); err != nil {
		return nil, fault.Writing(s.dir, err)
	}
	if removeMapped(m.path) {
		m.path = ""
	}
	return m, nil
}

// fill allocates the blocks of a file: a disk that is full when a mapped page is written would end the
// process. Where the file system cannot allocate ahead, it writes zeros.
func fill(f *os.File, bytes int64) error {
	if err := disk.Reserve(f, bytes); err != nil {
		return err
	}
	if disk.Allocated(f) >= bytes {
		return nil
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < bytes; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), bytes-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// Idle says that v, which [Store.Floats] returned, will not be used for a while: its pages need not
// stay in memory.
func (s *Store) Idle(v []float32) {
	if len(v) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := unsafe.Pointer(unsafe.SliceData(v))
	for _, m := range s.files {
		if unsafe.Pointer(unsafe.SliceData(m.data)) == at {
			dropPages(m.data)
			return
		}
	}
}

// Limit returns the bytes that stay on the heap.
func (s *Store) Limit() int64 { return s.limit }

// OnDisk returns the bytes that are in files.
func (s *Store) OnDisk() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.onDisk
}

// Close removes the files. What [Store.Floats] returned must not be used afterwards.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.files {
		unmap(m.data)
		if m.path != "" {
			os.Remove(m.path)
		}
	}
	s.files, s.heap, s.onDisk = nil, 0, 0
}

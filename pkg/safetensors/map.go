package safetensors

import (
	"os"
	"sync"
	"time"
	"unsafe"

	"afmq/pkg/fault"
)

// mapping is the whole of one file in memory: mapped, or read into the heap where
// that cannot be.
type mapping struct {
	path   string
	data   []byte
	mapped bool
	file   *os.File // open as long as mapped, to see whether the file changes
	size   int64
	mtime  time.Time
}

// live is every mapping that is not closed: a fault inside one is the file's
// failure, any other is a bug of the program.
var live struct {
	sync.Mutex
	set map[*mapping]bool
}

// newMapping takes over file, of the given state, in every case.
func newMapping(path string, file *os.File, info os.FileInfo) (*mapping, error) {
	m := &mapping{path: path, size: info.Size(), mtime: info.ModTime()}
	if int64(int(m.size)) != m.size {
		file.Close()
		return nil, fault.Inputf(path, "%d bytes are more than this machine can address", m.size)
	}
	if data, err := mapFile(file, int(m.size)); err == nil {
		m.data, m.mapped, m.file = data, true, file
		live.Lock()
		defer live.Unlock()
		if live.set == nil {
			live.set = make(map[*mapping]bool)
		}
		live.set[m] = true
		return m, nil
	}
	defer file.Close()
	m.data = make([]byte, m.size)
	if err := readFull(file, m.data, 0); err != nil {
		return nil, fault.Reading(path, err)
	}
	return m, nil
}

func (m *mapping) close() error {
	if !m.mapped {
		m.data = nil
		return nil
	}
	live.Lock()
	delete(live.set, m)
	live.Unlock()
	data := m.data
	m.data, m.mapped = nil, false
	err := unmapFile(data)
	if cerr := m.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// check returns an error if the file is no longer the one that was mapped. A file
// that shrank within its last page reads as zeros there, without any fault, and
// one that was overwritten in place reads as a mixture.
func (m *mapping) check() error {
	if !m.mapped {
		return nil
	}
	info, err := m.file.Stat()
	if err != nil {
		return fault.Reading(m.path, err)
	}
	if info.Size() != m.size {
		return m.changed()
	}
	if !info.ModTime().Equal(m.mtime) {
		return fault.Inputf(m.path, "was written to while it was being read")
	}
	return nil
}

func (m *mapping) changed() error {
	return fault.Inputf(m.path, "was truncated or replaced while it was being read: had %d bytes", m.size)
}

// mappingAt returns the live mapping that holds the address, nil if none does.
func mappingAt(addr uintptr) *mapping {
	live.Lock()
	defer live.Unlock()
	for m := range live.set {
		// A file's last page is mapped to its end.
		base := uintptr(unsafe.Pointer(unsafe.SliceData(m.data)))
		if addr >= base && addr-base < uintptr(roundUp(len(m.data), os.Getpagesize())) {
			return m
		}
	}
	return nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// release gives the whole pages inside data[begin:end] back.
func (m *mapping) release(begin, end int64) {
	page := int64(os.Getpagesize())
	begin = (begin + page - 1) / page * page
	end = end / page * page
	if m.mapped && begin < end {
		releasePages(m.data[begin:end])
	}
}

package safetensors

import (
	"os"
	"sync"
	"time"
	"unsafe"

	"afmq/pkg/fault"
)

// mapping is the content of one file: mapped into memory, or read into the heap where
// the file cannot be mapped.
type mapping struct {
	path   string
	data   []byte
	mapped bool
	file   *os.File // open while mapped, to detect changes; nil otherwise
	size   int64
	mtime  time.Time
}

// live holds every open mapping. A memory fault inside one is caused by the file; any
// other is a bug in the program.
var live struct {
	sync.Mutex
	set map[*mapping]bool
}

// newMapping maps file, whose state is info. It takes ownership of file, also when it
// fails.
func newMapping(path string, file *os.File, info os.FileInfo) (*mapping, error) {
	m := &mapping{path: path, size: info.Size(), mtime: info.ModTime()}
	if int64(int(m.size)) != m.size {
		file.Close()
		return nil, fault.Inputf(path, "file of %d bytes exceeds the address space", m.size)
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

// check returns an error if the file was changed since it was mapped. A file that
// shrank within its last page reads as zeros there, without a fault, and one that was
// overwritten in place reads as a mixture of old and new data.
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

// mappingAt returns the open mapping that contains the address, nil if there is none.
func mappingAt(addr uintptr) *mapping {
	live.Lock()
	defer live.Unlock()
	for m := range live.set {
		// The last page is mapped as a whole.
		base := uintptr(unsafe.Pointer(unsafe.SliceData(m.data)))
		if addr >= base && addr-base < uintptr(roundUp(len(m.data), os.Getpagesize())) {
			return m
		}
	}
	return nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// release gives the memory of the whole pages within data[begin:end] back.
func (m *mapping) release(begin, end int64) {
	page := int64(os.Getpagesize())
	begin = (begin + page - 1) / page * page
	end = end / page * page
	if m.mapped && begin < end {
		releasePages(m.data[begin:end])
	}
}

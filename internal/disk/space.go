package disk

import (
	"fmt"
	"syscall"
)

// noSpace reports that a file system is too small before anything is written. It counts as
// ENOSPC, so that fault.Writing treats it as the failure that writing would have met.
type noSpace struct{ need, free int64 } // bytes

func (e *noSpace) Error() string {
	return fmt.Sprintf("no space left: needs %d more bytes (%.2f GB), %d are free (%.2f GB)",
		e.need, float64(e.need)/1e9, e.free, float64(e.free)/1e9)
}

func (e *noSpace) Is(target error) bool { return target == syscall.ENOSPC }

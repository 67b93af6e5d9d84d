package disk

import (
	"fmt"
	"syscall"

	"afmq/internal/units"
)

// noSpace reports that a file system is too small before anything is written. It counts as
// ENOSPC, so that fault.Writing treats it as the failure that writing would have met.
type noSpace struct{ need, free int64 } // bytes

func (e *noSpace) Error() string {
	return fmt.Sprintf("no space left: needs %s more bytes (%s), %s are free (%s)",
		units.Thousands(e.need), units.Size(e.need), units.Thousands(e.free), units.Size(e.free))
}

func (e *noSpace) Is(target error) bool { return target == syscall.ENOSPC }

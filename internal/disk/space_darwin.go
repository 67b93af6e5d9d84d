package disk

import "os"

// Reserve checks that f can grow to total bytes. A lack of space is syscall.ENOSPC.
func Reserve(f *os.File, total int64) error { return checkGrowth(f, total) }

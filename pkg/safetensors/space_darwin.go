package safetensors

import "os"

// reserve checks that the file can grow to total bytes. A lack of space is a
// *shortError.
func reserve(f *os.File, total int64) error { return checkFree(int(f.Fd()), total) }

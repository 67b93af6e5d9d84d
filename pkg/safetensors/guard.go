package safetensors

// Guard runs f, which reads the mapped file at path, and turns the fault of a file
// that was truncated meanwhile into an error of kind fault.Input. It covers the
// calling goroutine only: each goroutine that reads a mapped file needs its own.
func Guard(path string, f func() error) (err error) { panic("todo") }

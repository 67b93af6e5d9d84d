package safetensors

// Info says what a tensor to be written looks like.
type Info struct {
	Name  string
	DType DType
	Shape []int
}

// FileSize returns the size in bytes of everything before the first tensor and of
// the whole file that Create would write.
func FileSize(infos []Info, metadata map[string]string) (header, total int64, err error) {
	panic("todo")
}

// Writer writes one safetensors file, tensor after tensor, and holds none of it.
type Writer struct{ todo int }

// Create starts a file whose tensors will follow in the order of infos. It is
// staged as path+".partial" until Close.
func Create(path string, infos []Info, metadata map[string]string) (*Writer, error) { panic("todo") }

// Resume continues the staged file of an earlier Create with the same infos and
// metadata, of which the first done tensors are known to be whole; what follows
// them is dropped.
func Resume(path string, infos []Info, metadata map[string]string, done int) (*Writer, error) {
	panic("todo")
}

// Done returns how many tensors, from the first, are written whole.
func (w *Writer) Done() int { panic("todo") }

// Write writes the next tensor, which must be the one named; data is its
// little-endian bytes.
func (w *Writer) Write(name string, data []byte) error { panic("todo") }

// Append writes the next bytes of the current tensor, or the first of the next.
func (w *Writer) Append(data []byte) error { panic("todo") }

// Sync makes what was written so far survive a crash.
func (w *Writer) Sync() error { panic("todo") }

// Keep syncs and closes the staged file and leaves it for Resume.
func (w *Writer) Keep() error { panic("todo") }

// Close publishes the file: it syncs, renames to the final path and syncs the
// directory. A tensor that is missing is an error.
func (w *Writer) Close() error { panic("todo") }

// Abort removes the staged file. After Close it does nothing.
func (w *Writer) Abort() error { panic("todo") }

package safetensors

// File is one open safetensors file. Its methods may be called from many
// goroutines; Close may not be called while tensors are in use.
type File struct{ todo int }

// Open maps the file at path and checks its whole header. Every error names the
// file, and the tensor where there is one, and is of kind fault.Input.
func Open(path string) (*File, error) { panic("todo") }

// Path returns the path given to Open.
func (f *File) Path() string { panic("todo") }

// Names returns the names of all tensors in the order of their data in the file.
func (f *File) Names() []string { panic("todo") }

// Tensor returns the tensor of that name, or false.
func (f *File) Tensor(name string) (*Tensor, bool) { panic("todo") }

// Metadata returns the header's __metadata__ entries, nil if it has none.
func (f *File) Metadata() map[string]string { panic("todo") }

// HeaderBytes returns the size of everything before the first tensor: the length
// word, the JSON and its padding.
func (f *File) HeaderBytes() int64 { panic("todo") }

// Bytes returns the file's size.
func (f *File) Bytes() int64 { panic("todo") }

// Close unmaps the file. Every slice that came from it is dead afterwards.
func (f *File) Close() error { panic("todo") }

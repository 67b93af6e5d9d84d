package safetensors

// Checkpoint is a model's tensors, in one file or in shards.
type Checkpoint struct{ todo int }

// OpenCheckpoint opens the tensors of a Hugging Face model directory:
// model.safetensors, or else the shards that model.safetensors.index.json names.
// Where both are there the single file wins, as it does in transformers.
func OpenCheckpoint(dir string) (*Checkpoint, error) { panic("todo") }

// Names returns the names of all tensors, by file in the order of Files, then by
// the order of their data in it.
func (c *Checkpoint) Names() []string { panic("todo") }

// Tensor returns the tensor of that name, or false.
func (c *Checkpoint) Tensor(name string) (*Tensor, bool) { panic("todo") }

// Metadata returns the __metadata__ entries that all files agree on.
func (c *Checkpoint) Metadata() map[string]string { panic("todo") }

// Files returns the paths of all files, sorted by name.
func (c *Checkpoint) Files() []string { panic("todo") }

// Bytes returns the size of all files together, headers included.
func (c *Checkpoint) Bytes() int64 { panic("todo") }

// Close closes all files.
func (c *Checkpoint) Close() error { panic("todo") }

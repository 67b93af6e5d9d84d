package safetensors

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"afmq/pkg/fault"
)

const (
	singleName = "model.safetensors"
	indexName  = "model.safetensors.index.json"
)

// Checkpoint is a model's tensors, in one file or in shards. Like a File it may be
// read from many goroutines.
type Checkpoint struct {
	files []*File // sorted by name
	index map[string]*Tensor
}

// OpenCheckpoint opens the tensors of a Hugging Face model directory:
// model.safetensors, or else the shards that model.safetensors.index.json names.
// Where both are there the single file wins and the index is not read, as in
// transformers.
//
// Index and shards must agree exactly: a shard that is missing, a tensor that its
// shard does not have, one that a shard has and the index does not name, and one
// that two shards have are errors. All are of kind fault.Input and name the file
// and the tensor.
func OpenCheckpoint(dir string) (*Checkpoint, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fault.Reading(dir, err)
	} else if !info.IsDir() {
		return nil, fault.Inputf(dir, "is not a directory")
	}
	single, err := present(filepath.Join(dir, singleName))
	if err != nil {
		return nil, err
	}
	if single {
		return openFiles(dir, []string{singleName}, nil)
	}
	sharded, err := present(filepath.Join(dir, indexName))
	if err != nil {
		return nil, err
	}
	if !sharded {
		return nil, missing(dir)
	}
	x, err := readIndex(filepath.Join(dir, indexName))
	if err != nil {
		return nil, err
	}
	return openFiles(dir, x.shards, x)
}

// present says whether there is a file at path. A symbolic link to nothing is an
// error: to go on as if it were not there would open another model.
func present(path string) (bool, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, fault.Inputf(path, "is a symbolic link to a file that is not there")
	} else if err != nil {
		return false, fault.Reading(path, err)
	}
	return true, nil
}

// missing reports a directory without safetensors, and what it has instead.
func missing(dir string) error {
	err := fault.Inputf(dir, "has neither %s nor %s", singleName, indexName)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasSuffix(name, ".partial"):
			return err.WithHint("%s is a download or a run that was not finished", name)
		case strings.HasPrefix(name, "pytorch_model") && strings.Contains(name, ".bin"), strings.HasSuffix(name, ".gguf"), strings.HasSuffix(name, ".pth"):
			return err.WithHint("only safetensors are read, and %s is none; convert the model first", name)
		case name == "adapter_model.safetensors":
			return err.WithHint("this is an adapter, not a model")
		}
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".safetensors") {
			return err.WithHint("%s has another name: rename it to %s if it is the whole model, or add the index of its shards", e.Name(), singleName)
		}
	}
	return err
}

// openFiles opens the named files of dir and, if there is an index, holds them
// against it.
func openFiles(dir string, names []string, x *index) (c *Checkpoint, err error) {
	c = &Checkpoint{index: make(map[string]*Tensor)}
	defer func() {
		if err != nil {
			c.Close()
			c = nil
		}
	}()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if x != nil {
			if ok, err := present(path); err != nil {
				return c, err
			} else if !ok {
				return c, fault.Inputf(path, "shard is missing; %s names it", indexName)
			}
		}
		f, err := Open(path)
		if err != nil {
			return c, err
		}
		c.files = append(c.files, f)
		for _, t := range f.tensors {
			if first, dup := c.index[t.Name]; dup {
				return c, fault.Inputf(path, "tensor %q is in %s too", t.Name, filepath.Base(first.Path()))
			}
			if x != nil {
				if _, named := x.shard[t.Name]; !named {
					return c, fault.Inputf(path, "tensor %q is not in %s", t.Name, indexName)
				}
			}
			c.index[t.Name] = t
		}
	}
	if x == nil {
		return c, nil
	}
	return c, c.checkIndex(dir, x)
}

// checkIndex checks that every tensor of the index is in the shard it names, in
// the order of the names, so that the same files always give the same error.
func (c *Checkpoint) checkIndex(dir string, x *index) error {
	for _, name := range slices.Sorted(maps.Keys(x.shard)) {
		shard := x.shard[name]
		t, ok := c.index[name]
		if !ok {
			return fault.Inputf(filepath.Join(dir, shard), "tensor %q is missing; %s names it here", name, indexName)
		}
		if in := filepath.Base(t.Path()); in != shard {
			return fault.Inputf(filepath.Join(dir, indexName), "tensor %q is in %s, not in %s", name, in, shard)
		}
	}
	return nil
}

// Names returns the names of all tensors, by file in the order of Files, then by
// the order of their data in it.
func (c *Checkpoint) Names() []string {
	names := make([]string, 0, len(c.index))
	for _, f := range c.files {
		names = append(names, f.Names()...)
	}
	return names
}

// Tensor returns the tensor of that name, or false.
func (c *Checkpoint) Tensor(name string) (*Tensor, bool) {
	t, ok := c.index[name]
	return t, ok
}

// Metadata returns the __metadata__ entries that all files have with the same
// value, nil if there are none.
func (c *Checkpoint) Metadata() map[string]string {
	common := c.files[0].Metadata()
	for _, f := range c.files[1:] {
		for k, v := range common {
			if w, ok := f.header.metadata[k]; !ok || w != v {
				delete(common, k)
			}
		}
	}
	if len(common) == 0 {
		return nil
	}
	return common
}

// Files returns the paths of all files, sorted by name.
func (c *Checkpoint) Files() []string {
	paths := make([]string, len(c.files))
	for i, f := range c.files {
		paths[i] = f.path
	}
	return paths
}

// Bytes returns the size of all files together, headers included.
func (c *Checkpoint) Bytes() int64 {
	n := int64(0)
	for _, f := range c.files {
		n += f.Bytes()
	}
	return n
}

// Check does what File.Check does for every file.
func (c *Checkpoint) Check() error {
	for _, f := range c.files {
		if err := f.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Close closes all files.
func (c *Checkpoint) Close() error {
	var first error
	for _, f := range c.files {
		if err := f.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

package safetensors

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"afmq/internal/disk"
	"afmq/internal/infile"
	"afmq/pkg/fault"
)

const (
	singleName = "model.safetensors"
	indexName  = "model.safetensors.index.json"
)

// Checkpoint holds the tensors of a model, in one file or in shards. Like a File it
// may be read concurrently.
type Checkpoint struct {
	files []*File // sorted by name
	index map[string]*Tensor
}

// OpenCheckpoint opens the tensors of a Hugging Face model directory:
// model.safetensors, or else the shards that model.safetensors.index.json names.
// If both exist the single file is used and the index ignored, as in transformers.
//
// Index and shards must agree exactly. These are errors of kind fault.Input that
// name the file and the tensor: a missing shard, a tensor that its shard lacks, a
// tensor that the index lacks, and a tensor in two shards.
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

// present reports whether a file exists at path. A dangling symbolic link is an
// error: treating it as absent could open a different model.
func present(path string) (bool, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, fault.Inputf(path, "is a dangling symbolic link")
	} else if err != nil {
		return false, fault.Reading(path, err)
	}
	return true, nil
}

// missing returns the error for a directory without safetensors, with a hint from
// what it has instead.
func missing(dir string) error {
	err := fault.Inputf(dir, "has neither %s nor %s", singleName, indexName)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		name := e.Name()
		format, hint := infile.Foreign(name)
		switch {
		case strings.HasSuffix(name, ".partial"), disk.IsStaged(name):
			return err.WithHint("%s is an unfinished download or output file", name)
		case format != "":
			return fault.Inputf(dir, "has no %s; %s is %s", singleName, name, format).WithHint("%s", hint)
		case name == "adapter_model.safetensors":
			return err.WithHint("this is an adapter, not a model")
		}
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".safetensors") {
			return err.WithHint("rename %s to %s if it is the whole model, or add the index of its shards", e.Name(), singleName)
		}
	}
	return err
}

// openFiles opens the named files of dir and checks them against the index, if x is
// not nil.
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
				return c, fault.Inputf(path, "tensor %q is also in %s", t.Name, filepath.Base(first.Path()))
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

// checkIndex checks that every tensor of the index is in the shard that the index
// names. It goes by tensor name, so that the same files always give the same error.
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

// Names returns the names of all tensors: by file in the order of Files, within a
// file in the order of their data.
func (c *Checkpoint) Names() []string {
	names := make([]string, 0, len(c.index))
	for _, f := range c.files {
		names = append(names, f.Names()...)
	}
	return names
}

// Tensor returns the named tensor, or false if there is none.
func (c *Checkpoint) Tensor(name string) (*Tensor, bool) {
	t, ok := c.index[name]
	return t, ok
}

// Metadata returns the __metadata__ entries that are equal in all files, nil if there
// are none.
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

// Bytes returns the total size of all files, headers included.
func (c *Checkpoint) Bytes() int64 {
	n := int64(0)
	for _, f := range c.files {
		n += f.Bytes()
	}
	return n
}

// Check calls File.Check for every file.
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

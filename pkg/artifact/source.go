package artifact

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
	"afmq/pkg/tokenizer"
)

// Files of a checkpoint, which an artifact has too.
const (
	ConfigFile    = "config.json"
	TokenizerFile = "tokenizer.json"
)

// copiedFiles are the files of a checkpoint that go into an artifact unchanged,
// where the checkpoint has them.
var copiedFiles = []string{
	"added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json",
	"merges.txt", "special_tokens_map.json", TokenizerFile, "tokenizer.model",
	"tokenizer_config.json", "vocab.json",
}

// MaxCopiedBytes is the size of the largest file that is copied unchanged: it is held in
// memory whole.
const MaxCopiedBytes = 1 << 30

// Source is a 16-bit checkpoint that [OpenSource] opened. It has passed every check that
// reads no weight.
type Source struct {
	Dir        string
	Config     *model.Config
	RawConfig  []byte       // the bytes of config.json
	Copies     []FileDigest // files that go into an artifact unchanged, in name order
	Checkpoint *safetensors.Checkpoint
	Tokenizer  *tokenizer.Tokenizer
	Tensors    []SourceTensor // every tensor of the model, in the order of [model.Config.Tensors]
}

// SourceTensor is one tensor of the model and where the checkpoint stores it.
type SourceTensor struct {
	Spec   model.TensorSpec
	Tensor *safetensors.Tensor
	Twins  []*safetensors.Tensor // further copies under other names; equal to Tensor in a valid checkpoint
}

// Close closes the files of weights.
func (s *Source) Close() { s.Checkpoint.Close() }

// OpenSource opens the checkpoint in dir. It must store every tensor that config.json
// implies, in its exact shape as F16, BF16 or F32, and no other. An artifact, and a
// checkpoint that another tool quantized, are refused. Errors are of kind [fault.Input].
func OpenSource(ctx context.Context, dir string) (*Source, error) {
	if IsArtifact(dir) {
		return nil, fault.Inputf(dir, "is an afmq artifact: it is quantized already").
			WithHint("give the checkpoint that it was made from")
	}
	s := &Source{Dir: dir}
	path := filepath.Join(dir, ConfigFile)
	var err error
	if s.RawConfig, err = model.ReadConfigFile(dir); err != nil {
		return nil, err
	}
	if err := refuseQuantized(path, s.RawConfig); err != nil {
		return nil, err
	}
	if s.Config, err = model.ParseConfig(path, s.RawConfig); err != nil {
		return nil, err
	}
	if s.Checkpoint, err = safetensors.OpenCheckpoint(dir); err != nil {
		return nil, err
	}
	if err = s.findTensors(); err == nil {
		s.Tokenizer, err = model.OpenTokenizer(dir, s.Config)
	}
	if err == nil {
		s.Copies, err = hashCopies(ctx, dir)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// refuseQuantized returns an error if a config says that the checkpoint is
// quantized, by us or by another tool.
func refuseQuantized(path string, raw []byte) error {
	keys, err := splitObject(raw)
	if err != nil {
		return fault.Inputf(path, "not valid JSON: %v", err)
	}
	for _, k := range keys {
		if (k.Name == quantizationKey || k.Name == "compression_config") && string(k.value) != "null" {
			return fault.Inputf(path, "has %s: the checkpoint is quantized already", k.Name).
				WithHint("quantize the 16-bit checkpoint that it was made from")
		}
	}
	return nil
}

// findTensors finds every tensor of the model in the checkpoint.
func (s *Source) findTensors() error {
	finder := NewTensorFinder(s.Dir, s.Checkpoint, s.Config)
	for _, spec := range s.Config.Tensors() {
		t, copies, err := finder.Dense(spec)
		if err != nil {
			return err
		}
		s.Tensors = append(s.Tensors, SourceTensor{Spec: spec, Tensor: t, Twins: copies})
	}
	return finder.CheckUnused()
}

// hashCopies returns the digests of the files to be copied, in name order.
func hashCopies(ctx context.Context, dir string) ([]FileDigest, error) {
	var out []FileDigest
	for _, name := range copiedFiles {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue // Lstat, so that a dangling link is an error below
		}
		d, err := HashFile(ctx, path, name, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// TokenizerDigest returns the hex SHA-256 of tokenizer.json.
func (s *Source) TokenizerDigest() string {
	for _, d := range s.Copies {
		if d.Name == TokenizerFile {
			return d.SHA256
		}
	}
	return "" // unreachable: OpenSource read the tokenizer
}

// CopyFile passes the content of the file d of dir to write. A file that no longer has the
// digest of d is an error.
func CopyFile(dir string, d FileDigest, write func(name string, data []byte) error) error {
	path := filepath.Join(dir, d.Name)
	data, err := infile.Read(path, MaxCopiedBytes)
	if err != nil {
		return err
	}
	if int64(len(data)) != d.Bytes || infile.SHA256(data) != d.SHA256 {
		return fault.Inputf(path, "changed while it was being read")
	}
	return write(d.Name, data)
}

package artifact

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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

// Source is a 16-bit checkpoint, opened to be quantized or compared. It has passed every
// check that needs no weight.
type Source struct {
	Dir        string
	Config     *model.Config
	RawConfig  []byte       // config.json as it is
	Copies     []FileDigest // files that go into an artifact unchanged, in name order
	Checkpoint *safetensors.Checkpoint
	Tokenizer  *tokenizer.Tokenizer
	Tensors    []SourceTensor // every tensor of the model, in the order of [model.Config.Tensors]
}

// SourceTensor is one tensor of the model and where the checkpoint stores it.
type SourceTensor struct {
	Spec   model.TensorSpec
	Tensor *safetensors.Tensor
	Twins  []*safetensors.Tensor // further copies under other names, which must be equal
}

// Close closes the files of weights.
func (s *Source) Close() { s.Checkpoint.Close() }

// OpenSource opens the checkpoint in dir. Every tensor that config.json implies must be
// stored in its exact shape as F16, BF16 or F32, and no other; an artifact or a checkpoint
// that another tool quantized is refused. Errors are fault.Input.
func OpenSource(ctx context.Context, dir string) (*Source, error) {
	if st, err := os.Stat(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.Inputf(dir, "does not exist")
		}
		return nil, fault.Reading(dir, err)
	} else if !st.IsDir() {
		return nil, fault.Inputf(dir, "is not a directory; expected one with %s and %s", ConfigFile, WeightsFile)
	}
	if IsArtifact(dir) {
		return nil, fault.Inputf(dir, "is an afmq artifact: it is quantized already").
			WithHint("quantize the checkpoint that it was made from")
	}
	s := &Source{Dir: dir}
	path := filepath.Join(dir, ConfigFile)
	var err error
	if s.RawConfig, err = infile.Read(path, MaxCopiedBytes); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.Inputf(path, "is missing")
		}
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
	if err = s.findWeights(); err == nil {
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

// findWeights finds every tensor of the model in the checkpoint, and a place in
// the model for every tensor of the checkpoint.
func (s *Source) findWeights() error {
	used := map[string]bool{}
	for _, spec := range s.Config.Tensors() {
		w := SourceTensor{Spec: spec}
		for _, name := range append([]string{spec.Name}, s.Config.Aliases(spec.Name)...) {
			t, ok := s.Checkpoint.Tensor(name)
			if !ok || used[name] {
				continue
			}
			used[name] = true
			if !slices.Equal(t.Shape, spec.Shape) {
				return fault.Inputf(t.Path(), "tensor %q has shape %v; %s asks for %v", name, t.Shape, ConfigFile, spec.Shape)
			}
			switch t.DType {
			case safetensors.F16, safetensors.BF16, safetensors.F32:
			default:
				return fault.Inputf(t.Path(), "tensor %q is %s; only F16, BF16 and F32 can be quantized", name, t.DType)
			}
			if w.Tensor == nil {
				w.Tensor = t
			} else {
				w.Twins = append(w.Twins, t)
			}
		}
		if w.Tensor == nil {
			return fault.Inputf(s.Dir, "tensor %q is missing", spec.Name)
		}
		s.Tensors = append(s.Tensors, w)
	}
	for _, name := range s.Checkpoint.Names() {
		if !used[name] && !s.Config.Ignorable(name) {
			t, _ := s.Checkpoint.Tensor(name)
			return fault.Inputf(t.Path(), "tensor %q has no place in the %s model that %s describes", name, s.Config.ModelType, ConfigFile)
		}
	}
	return nil
}

// hashCopies returns the digests of the files to be copied, in name order.
func hashCopies(ctx context.Context, dir string) ([]FileDigest, error) {
	var out []FileDigest
	for _, name := range copiedFiles {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue // a link to nothing is no file that is not there
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
	return "" // cannot be: the tokenizer was read
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

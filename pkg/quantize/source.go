package quantize

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"afmq/internal/fault"
	"afmq/internal/infile"
	"afmq/internal/tokenizer"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

const (
	configFile    = "config.json"
	tokenizerFile = "tokenizer.json"
)

// copiedFiles are the files of a checkpoint that go into an artifact unchanged,
// where the checkpoint has them.
var copiedFiles = []string{
	"added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json",
	"merges.txt", "special_tokens_map.json", tokenizerFile, "tokenizer.model",
	"tokenizer_config.json", "vocab.json",
}

// maxCopied bounds a file that is copied by way of memory.
const maxCopied = 1 << 30

// source is a checkpoint that passed every check that needs no weight.
type source struct {
	dir       string
	cfg       *infer.Config
	rawConfig []byte // config.json as it is
	copies    []infer.FileDigest
	ckpt      *safetensors.Checkpoint
	tokenizer *tokenizer.Tokenizer
	weights   []weight
}

// weight is one tensor of the model and where the checkpoint stores it.
type weight struct {
	spec infer.TensorSpec
	src  *safetensors.Tensor
	twin []*safetensors.Tensor // further copies under other names, which must be equal
}

func (s *source) close() { s.ckpt.Close() }

// openSource opens a checkpoint for quantizing.
func openSource(ctx context.Context, dir string) (*source, error) {
	if st, err := os.Stat(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.Inputf(dir, "does not exist")
		}
		return nil, fault.Reading(dir, err)
	} else if !st.IsDir() {
		return nil, fault.Inputf(dir, "is not a directory; expected one with %s and %s", configFile, infer.WeightsFile)
	}
	if infer.IsArtifact(dir) {
		return nil, fault.Inputf(dir, "is an afmq artifact: it is quantized already").
			WithHint("quantize the checkpoint that it was made from")
	}
	s := &source{dir: dir}
	path := filepath.Join(dir, configFile)
	var err error
	if s.rawConfig, err = infile.Read(path, maxCopied); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.Inputf(path, "is missing")
		}
		return nil, err
	}
	if err := refuseQuantized(path, s.rawConfig); err != nil {
		return nil, err
	}
	if s.cfg, err = infer.ParseConfig(path, s.rawConfig); err != nil {
		return nil, err
	}
	if s.ckpt, err = safetensors.OpenCheckpoint(dir); err != nil {
		return nil, err
	}
	if err = s.findWeights(); err == nil {
		s.tokenizer, err = infer.OpenTokenizer(dir, s.cfg)
	}
	if err == nil {
		s.copies, err = hashCopies(ctx, dir)
	}
	if err != nil {
		s.close()
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
		if (k.name == quantizationKey || k.name == "compression_config") && string(k.value) != "null" {
			return fault.Inputf(path, "has %s: the checkpoint is quantized already", k.name).
				WithHint("quantize the 16-bit checkpoint that it was made from")
		}
	}
	return nil
}

// findWeights finds every tensor of the model in the checkpoint, and a place in
// the model for every tensor of the checkpoint.
func (s *source) findWeights() error {
	used := map[string]bool{}
	for _, spec := range s.cfg.Tensors() {
		w := weight{spec: spec}
		for _, name := range append([]string{spec.Name}, s.cfg.Aliases(spec.Name)...) {
			t, ok := s.ckpt.Tensor(name)
			if !ok || used[name] {
				continue
			}
			used[name] = true
			if !slices.Equal(t.Shape, spec.Shape) {
				return fault.Inputf(t.Path(), "tensor %q has shape %v; %s asks for %v", name, t.Shape, configFile, spec.Shape)
			}
			switch t.DType {
			case safetensors.F16, safetensors.BF16, safetensors.F32:
			default:
				return fault.Inputf(t.Path(), "tensor %q is %s; only F16, BF16 and F32 can be quantized", name, t.DType)
			}
			if w.src == nil {
				w.src = t
			} else {
				w.twin = append(w.twin, t)
			}
		}
		if w.src == nil {
			return fault.Inputf(s.dir, "tensor %q is missing", spec.Name)
		}
		s.weights = append(s.weights, w)
	}
	for _, name := range s.ckpt.Names() {
		if !used[name] && !s.cfg.Ignorable(name) {
			t, _ := s.ckpt.Tensor(name)
			return fault.Inputf(t.Path(), "tensor %q has no place in the %s model that %s describes", name, s.cfg.ModelType, configFile)
		}
	}
	return nil
}

// hashCopies returns the digests of the files to be copied, in name order.
func hashCopies(ctx context.Context, dir string) ([]infer.FileDigest, error) {
	var out []infer.FileDigest
	for _, name := range copiedFiles {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue // a link to nothing is no file that is not there
		}
		d, err := hashFile(ctx, path, name, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// tokenizerDigest returns the digest of tokenizer.json.
func (s *source) tokenizerDigest() string {
	for _, d := range s.copies {
		if d.Name == tokenizerFile {
			return d.SHA256
		}
	}
	return "" // cannot be: the tokenizer was read
}

// copyFile copies a small file that must still be what d says, through write.
func copyFile(dir string, d infer.FileDigest, write func(name string, data []byte) error) error {
	path := filepath.Join(dir, d.Name)
	data, err := infile.Read(path, maxCopied)
	if err != nil {
		return err
	}
	if int64(len(data)) != d.Bytes || hexSum(data) != d.SHA256 {
		return fault.Inputf(path, "changed while it was being read")
	}
	return write(d.Name, data)
}

package gguf

import (
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/ggml"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
)

// reservedName is the length of the model's name for which [Overhead] leaves room.
const reservedName = 64

// Alignment is the multiple of bytes at which every tensor of a file starts.
const Alignment = 32

// Overhead returns the bytes that the file of a checkpoint's artifact has beside the matrices, each
// of which is padded to a multiple of [Alignment]: header, tokenizer, norms and biases. It leaves
// room for a model's name of 64 bytes; a file with a shorter name is smaller. toolVersion is that of
// Options. What llama.cpp does not have is the error that [Export] returns.
func Overhead(dir, toolVersion string) (int64, error) {
	cfg, err := model.LoadConfig(dir)
	if err != nil {
		return 0, err
	}
	context := cfg.MaxPositions
	if cfg.SlidingWindow > 0 {
		context = min(context, cfg.SlidingWindow) // it is exported with --ctx; the key has the same size
	}
	a := &artifact.Reader{Dir: dir, Config: cfg, Manifest: &artifact.Manifest{ContentHash: artifact.ContentHash(nil)}}
	e := &exporter{Options: Options{Artifact: dir, Name: strings.Repeat("x", reservedName), ToolVersion: toolVersion, Context: context}, s: source.New(a, "llama.cpp")}
	rope, err := e.describe()
	if err != nil {
		return 0, err
	}
	var tensors []file.Info
	matrices := int64(0)
	for _, spec := range cfg.Tensors() {
		t := file.Info{Name: ggufmodel.TensorName(spec), Type: ggml.F32, Shape: spec.Shape}
		if len(spec.Shape) == 2 {
			t.Type = ggml.F16
			n, err := t.Bytes()
			if err != nil {
				return 0, err
			}
			matrices += (n + Alignment - 1) / Alignment * Alignment
		}
		tensors = append(tensors, t)
	}
	for _, f := range rope {
		tensors = append(tensors, file.Info{Name: f.name, Type: ggml.F32, Shape: []int{len(f.values)}})
	}
	_, size, err := file.FileSize(e.metadata, tensors)
	return size - matrices, err
}

package artifact

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// Description summarizes a checkpoint or an artifact from its config, its headers and its
// manifest.
type Description struct {
	Kind         string      `json:"kind"` // "checkpoint" or "artifact"
	ModelType    string      `json:"model_type"`
	Layers       int         `json:"layers"`
	Hidden       int         `json:"hidden_size"`
	Intermediate int         `json:"intermediate_size"`
	Heads        int         `json:"heads"`
	KVHeads      int         `json:"kv_heads"`
	HeadDim      int         `json:"head_dim"`
	Vocab        int         `json:"vocab_size"`
	TokenizerIDs *int        `json:"tokenizer_ids"` // ids of tokenizer.json, the largest plus one; nil without that file
	Positions    int         `json:"max_positions"`
	Window       int         `json:"sliding_window"` // positions; see [model.Config]; 0 if no layer has a window
	WindowLayers int         `json:"sliding_layers"`
	RopeType     string      `json:"rope_type"`
	RopeTheta    float64     `json:"rope_theta"`
	TiedHead     bool        `json:"tied_embedding"`
	Parameters   int64       `json:"parameters"`
	WeightBytes  int64       `json:"weight_bytes"` // the safetensors files, headers included
	BitsPerParam float64     `json:"bits_per_parameter"`
	Types        []TypeCount `json:"types"`
	Manifest     *Manifest   `json:"manifest,omitempty"` // artifacts only
}

// TypeCount counts the tensors of one element type.
type TypeCount struct {
	Type    string `json:"type"`
	Tensors int    `json:"tensors"`
	Bytes   int64  `json:"bytes"`
}

// Describe reads the config, the tensor headers, the tokenizer and, for an artifact, the manifest
// in dir, but no weights. It does not check that weights and config agree; [Open] and [Verify] do.
// A tokenizer that cannot be used is an error; a directory may be without one, which is enough for
// its shape and sizes. Errors are of kind [fault.Input].
func Describe(dir string) (*Description, error) {
	cfg, err := model.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	d := &Description{
		Kind: "checkpoint", ModelType: cfg.ModelType, Layers: cfg.Layers, Hidden: cfg.HiddenSize,
		Intermediate: cfg.IntermediateSize, Heads: cfg.Heads, KVHeads: cfg.KVHeads, HeadDim: cfg.HeadDim,
		Vocab: cfg.VocabSize, Positions: cfg.MaxPositions, RopeType: cfg.Rope.Type, RopeTheta: cfg.Rope.Theta,
		Window: cfg.SlidingWindow, WindowLayers: cfg.SlidingLayers(),
		TiedHead: cfg.TieEmbeddings, WeightBytes: ckpt.Bytes(),
	}
	if d.TokenizerIDs, err = tokenizerIDs(dir, cfg); err != nil {
		return nil, err
	}
	for _, spec := range cfg.Tensors() {
		n := int64(1)
		for _, extent := range spec.Shape {
			n *= int64(extent)
		}
		d.Parameters += n
	}
	d.BitsPerParam = 8 * float64(d.WeightBytes) / float64(d.Parameters)
	counts := map[string]*TypeCount{}
	for _, name := range ckpt.Names() {
		t, _ := ckpt.Tensor(name)
		c := counts[t.DType.String()]
		if c == nil {
			c = &TypeCount{Type: t.DType.String()}
			counts[c.Type] = c
		}
		c.Tensors++
		c.Bytes += int64(len(t.Bytes()))
	}
	for _, c := range counts {
		d.Types = append(d.Types, *c)
	}
	slices.SortFunc(d.Types, func(a, b TypeCount) int { return strings.Compare(a.Type, b.Type) })
	if cfg.Quantization != nil {
		d.Kind = "artifact"
		if d.Manifest, err = ReadManifest(dir); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// tokenizerIDs returns the largest id of dir/tokenizer.json plus one; nil without that file.
func tokenizerIDs(dir string, cfg *model.Config) (*int, error) {
	if _, err := os.Lstat(filepath.Join(dir, TokenizerFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	t, err := model.OpenTokenizer(dir, cfg)
	if err != nil {
		return nil, err
	}
	n := int(t.MaxID()) + 1
	return &n, nil
}

package eval

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"afmq/internal/infile"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
)

// Identity names the inputs of an evaluation by their content. A file or directory that is moved
// keeps its identity, and one that is changed gets another. All digests are SHA-256 in lower-case
// hex.
type Identity struct {
	Data      string        `json:"data"`      // of the bytes of the text's file
	Tokenizer string        `json:"tokenizer"` // of tokenizer.json; of a GGUF file, of what its keys amount to ([ggufmodel.Model.TokenizerJSON])
	Model     ModelIdentity `json:"model"`
	Reference *string       `json:"reference"` // digest of the reference, as in ModelIdentity; nil without one
}

// ModelIdentity is the identity of a model without an adapter.
type ModelIdentity struct {
	Kind     string  `json:"kind"`     // "artifact", "checkpoint" or "gguf"
	Digest   string  `json:"digest"`   // content hash of an artifact; digest of a checkpoint, as in [artifact.SourceDigest]; of a GGUF file that of its bytes
	Source   string  `json:"source"`   // digest of the checkpoint that an artifact was made from; of others their own
	Verified bool    `json:"verified"` // the digest was computed from the weights; false if it is what an unverified manifest states
	Bytes    int64   `json:"bytes"`    // of the safetensors files, or of the GGUF file
	Recipe   *Recipe `json:"recipe"`   // nil but for an artifact
}

// Recipe is how an artifact was quantized.
type Recipe struct {
	BPW          artifact.BitsPerWeight `json:"bpw"`
	Widths       []int                  `json:"widths"`          // bits per index of its palettes or per code of another grid, ascending; 16 for a projection that was kept
	Grid         string                 `json:"grid,omitempty"`  // family of its grids, such as gguf; empty for palettes
	Forms        []artifact.Form        `json:"forms,omitempty"` // of its projections on those, by name
	GroupRows    int                    `json:"group_rows"`
	RowScale     bool                   `json:"row_scale"`
	Compensation string                 `json:"compensation"`
	Calibration  *string                `json:"calibration"`     // digest of the calibration tokens; nil without any
	Tuned        bool                   `json:"tuned,omitempty"` // its numbers were trained since
}

// AdapterIdentity is the identity of an adapter.
type AdapterIdentity struct {
	SHA256      string `json:"sha256"`       // of adapter_model.safetensors
	Rank        int    `json:"rank"`         // of the modules without a rank of their own
	Bytes       int64  `json:"bytes"`        // of adapter_model.safetensors
	TensorBytes int64  `json:"tensor_bytes"` // of its tensors: bytes without the file's header
	Bound       bool   `json:"bound"`        // it names the artifact that it was trained on
	// Overlap is what the text has in common with the text that the adapter was trained on.
	Overlap Overlap `json:"training_overlap"`
}

// Identify returns the identity of the inputs, and of each adapter. It hashes a checkpoint, which
// has no manifest. opts are the options that [Open] was given.
func (in *Inputs) Identify(ctx context.Context, opts Options) (id Identity, adapters []AdapterIdentity, err error) {
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	opts.Pool, opts.Progress = pool, progress.Begin(opts.Progress, artifact.StageHash)
	return in.identify(ctx, &opts)
}

func (in *Inputs) identify(ctx context.Context, opts *Options) (id Identity, adapters []AdapterIdentity, err error) {
	id.Data = in.Corpus.SHA256
	if id.Tokenizer, err = hashTokenizer(opts.Model); err != nil {
		return id, nil, err
	}
	if id.Model, err = identifyModel(ctx, in.Model, opts); err != nil {
		return id, nil, err
	}
	switch {
	case in.Reference == nil:
	case opts.Reference == opts.Model && id.Model.Kind != "artifact":
		digest := id.Model.Digest // hashed already
		id.Reference = &digest
	default:
		digest, err := hashModel(ctx, opts, opts.Reference)
		if err != nil {
			return id, nil, err
		}
		id.Reference = &digest
	}
	for _, v := range in.Variants {
		a, err := identifyAdapter(&v, in.Corpus)
		if err != nil {
			return id, nil, err
		}
		adapters = append(adapters, a)
	}
	return id, adapters, nil
}

func identifyModel(ctx context.Context, model *infer.Model, opts *Options) (ModelIdentity, error) {
	if m := model.Manifest; m != nil {
		return ModelIdentity{
			Kind: "artifact", Digest: m.ContentHash, Source: m.Source.Digest, Verified: model.Verified,
			Bytes: m.Ledger.Total, Recipe: NewRecipe(m),
		}, nil
	}
	id := ModelIdentity{Kind: "checkpoint", Verified: true}
	if ggufmodel.Is(opts.Model) {
		info, err := os.Stat(opts.Model)
		if err != nil {
			return id, fault.Reading(opts.Model, err)
		}
		id.Kind, id.Bytes = "gguf", info.Size()
	} else {
		d, err := artifact.Describe(opts.Model)
		if err != nil {
			return id, err
		}
		id.Bytes = d.WeightBytes
	}
	var err error
	id.Digest, err = hashModel(ctx, opts, opts.Model)
	id.Source = id.Digest
	return id, err
}

// hashTokenizer returns [Identity].Tokenizer of a model.
func hashTokenizer(path string) (string, error) {
	if !ggufmodel.Is(path) {
		return infile.Hash(filepath.Join(path, artifact.TokenizerFile))
	}
	m, err := ggufmodel.Open(path)
	if err != nil {
		return "", err
	}
	defer m.Close()
	data, err := m.TokenizerJSON()
	return infile.SHA256(data), err
}

// hashModel returns the digest of a checkpoint or a GGUF file.
func hashModel(ctx context.Context, opts *Options, path string) (string, error) {
	if !ggufmodel.Is(path) {
		return artifact.DigestCheckpoint(ctx, opts.Pool, path, opts.Progress)
	}
	return artifact.DigestFile(ctx, path, opts.Progress)
}

// NewRecipe returns the recipe that a manifest records.
func NewRecipe(m *artifact.Manifest) *Recipe {
	r := &Recipe{Tuned: len(m.Tuning) > 0, BPW: m.BPW, GroupRows: m.Plan.GroupRows, RowScale: m.Plan.RowScale, Grid: m.Plan.Grid, Compensation: m.Plan.Compensation, Widths: []int{}}
	for _, module := range m.Plan.Modules {
		// Embedding and head have a type of their own and do not count, like int8 rows, but for a head
		// in palettes.
		kind := module.Name[strings.LastIndexByte(module.Name, '.')+1:]
		projection := model.InputGroup(kind) != nil
		switch module.Form {
		case artifact.Palette:
			if projection || kind == "lm_head" {
				r.Widths = append(r.Widths, module.Bits)
			}
		case artifact.Plain:
			r.Widths = append(r.Widths, artifact.KeepBits)
		default:
			if module.Form.OnGrid() && projection {
				r.Widths, r.Forms = append(r.Widths, module.Bits), append(r.Forms, module.Form)
			}
		}
	}
	slices.Sort(r.Widths)
	r.Widths = slices.Compact(r.Widths)
	slices.Sort(r.Forms)
	r.Forms = slices.Compact(r.Forms)
	if c := m.Calibration; c != nil {
		r.Calibration = &c.Digest
	}
	return r
}

// identifyAdapter returns the identity of a variant's adapter, with its overlap with a corpus.
func identifyAdapter(v *Variant, corpus *Corpus) (AdapterIdentity, error) {
	sum, err := infile.Hash(filepath.Join(v.Dir, adapter.WeightsFile))
	if err != nil {
		return AdapterIdentity{}, err
	}
	w := v.Weights
	return AdapterIdentity{
		SHA256: sum, Rank: w.Config.Rank, Bytes: w.Bytes, TensorBytes: w.TensorBytes, Bound: w.Base != "",
		Overlap: Overlap(w.Overlap(corpus.SHA256, corpus.IDs)),
	}, nil
}

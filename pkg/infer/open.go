package infer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// OpenOptions are the options of [Open] and [OpenWeights]. The zero value works
// and verifies artifacts.
type OpenOptions struct {
	// By default an artifact is checked against its manifest: the data of each tensor is hashed,
	// from the mapping that is packed, and config.json, generation_config.json and
	// tokenizer.json. The manifest's content hash is then that of the weights in memory.
	// SkipVerify omits the hashes: the manifest is read, and names, types, shapes and finite
	// values are checked. A checkpoint has no manifest to check against.
	SkipVerify bool
	// Share is a model in memory, such as the 16-bit model of an artifact. Matrices that both store
	// alike are in memory once. nil for none.
	Share    *Model
	Pool     *compute.Pool     // loads the tensors; nil for Threads workers of its own
	Threads  int               // where Pool is nil; 0 for all cores
	Progress progress.Reporter // nil for none
}

// StageLoad is the stage of [Open] and [OpenWeights].
const StageLoad = "load weights"

// Open reads the checkpoint or artifact in dir into memory, or the GGUF file dir; see package
// ggufmodel. It must store every tensor that
// its config implies, in its exact shape and with finite values, and no other; and the
// embedding must have a row for every id of the tokenizer. Errors are of kind [fault.Input]
// and name the file and the tensor.
func Open(ctx context.Context, dir string, opts OpenOptions) (*Model, error) {
	if ggufmodel.Is(dir) {
		return openGGUF(ctx, dir, opts)
	}
	m, err := OpenWeights(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	if m.Tokenizer, err = model.OpenTokenizer(dir, m.Config); err != nil {
		return nil, err
	}
	if m.Verified {
		if err := m.Manifest.CheckFile(ctx, dir, artifact.TokenizerFile, nil); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// OpenWeights is [Open] without the tokenizer, for callers that have token ids.
func OpenWeights(ctx context.Context, dir string, opts OpenOptions) (*Model, error) {
	cfg, err := model.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	m := &Model{Dir: dir, Config: cfg, Blocks: make([]Block, cfg.Layers)}
	if artifact.IsArtifact(dir) {
		if m.Manifest, err = artifact.ReadManifest(dir); err != nil {
			return nil, err
		}
	}
	m.Verified = m.Manifest != nil && !opts.SkipVerify
	if m.Verified {
		if err := m.checkConfigFiles(ctx); err != nil {
			return nil, err
		}
	}
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	if err := m.load(ctx, pool, ckpt, opts.Share, progress.Begin(opts.Progress, StageLoad)); err != nil {
		return nil, err
	}
	if m.Head == nil {
		m.Head = m.Embedding
	}
	return m, nil
}

// checkConfigFiles checks the files that the config was read from against the manifest.
func (m *Model) checkConfigFiles(ctx context.Context) error {
	if err := m.Manifest.CheckFile(ctx, m.Dir, artifact.ConfigFile, nil); err != nil {
		return err
	}
	const optional = "generation_config.json"
	listed := slices.ContainsFunc(m.Manifest.Files, func(f artifact.FileDigest) bool { return f.Name == optional })
	if _, err := os.Lstat(filepath.Join(m.Dir, optional)); !listed && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return m.Manifest.CheckFile(ctx, m.Dir, optional, nil)
}

// load finds every tensor of the model in ckpt and packs it.
func (m *Model) load(ctx context.Context, pool *compute.Pool, ckpt *safetensors.Checkpoint, shared *Model, p progress.Reporter) error {
	w := &weightReader{dir: m.Dir, cfg: m.Config, finder: artifact.NewTensorFinder(m.Dir, ckpt, m.Config)}
	var loads []weightLoad
	specs := m.Config.Tensors()
	for _, spec := range specs {
		l, err := m.weight(w, spec)
		if err != nil {
			return err
		}
		loads = append(loads, l)
	}
	if err := w.finder.CheckUnused(); err != nil {
		return err
	}
	var listed map[string]artifact.TensorDigest
	if m.Verified {
		listed = make(map[string]artifact.TensorDigest, len(m.Manifest.Tensors))
		for _, d := range m.Manifest.Tensors {
			if !w.finder.Has(d.Name) {
				return fault.Inputf(m.Dir, "tensor %q is missing; %s lists it", d.Name, artifact.ManifestFile)
			}
			listed[d.Name] = d
		}
	}
	p.Stage(progress.Stage{Name: StageLoad, Work: ckpt.Bytes()})
	defer p.Done()
	errs := make([]error, len(loads))
	pool.Run(len(loads), func(_, i int) {
		if errs[i] = ctx.Err(); errs[i] == nil && m.Verified {
			errs[i] = loads[i].verify(ctx, listed)
		}
		if errs[i] == nil {
			errs[i] = safetensors.Guard(loads[i].tensors[0].Path(), loads[i].pack)
		}
		if errs[i] == nil {
			m.share(shared, specs[i])
			for _, t := range loads[i].tensors {
				p.Advance(int64(len(t.Bytes())))
			}
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// share replaces a matrix that has been loaded by that of another model, if they are equal.
func (m *Model) share(other *Model, spec model.TensorSpec) {
	if other == nil {
		return
	}
	mine, theirs := m.matrix(spec), other.matrix(spec)
	if mine != nil && theirs != nil && *mine != nil && *theirs != nil && (*mine).Equal(*theirs) {
		*mine = *theirs
	}
}

// matrix returns where the model has the matrix of a tensor; nil for a vector, and for a layer that
// it does not have.
func (m *Model) matrix(spec model.TensorSpec) **compute.Matrix {
	switch {
	case spec.Role == model.Embedding:
		return &m.Embedding
	case spec.Role == model.Head:
		return &m.Head
	case spec.Role == model.Projection && spec.Layer < len(m.Blocks):
		return &m.Blocks[spec.Layer].Linear(spec.Kind).Weight
	}
	return nil
}

// weight returns how one tensor of the model is loaded.
func (m *Model) weight(w *weightReader, spec model.TensorSpec) (weightLoad, error) {
	var b *Block
	if spec.Layer >= 0 {
		b = &m.Blocks[spec.Layer]
	}
	switch spec.Role {
	case model.Embedding:
		return w.matrix(spec, &m.Embedding)
	case model.Head:
		return w.matrix(spec, &m.Head)
	case model.Projection:
		return w.matrix(spec, &b.Linear(spec.Kind).Weight)
	}
	return w.vector(spec, func(v []float32) { m.SetVector(spec, v) })
}

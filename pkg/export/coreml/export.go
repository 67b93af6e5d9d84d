// Package coreml writes an artifact as a Core ML model package (.mlpackage) for iOS 18,
// macOS 15 and later, without Apple's tools. Package target has the rules that it must keep.
//
// The package keeps the artifact's palettes: the packed indices, tables and row scales are
// the same bits, and Core ML decompresses them by constexpr_lut_to_dense and
// constexpr_blockwise_shift_scale. The program is the model in fp16 with its key and value
// caches as states. Every function takes the tokens of a chunk and the position of the first
// of them and returns the logits of every token:
//
//	input_ids   int32 [1, chunk]
//	position    int32 [1]           tokens that are in the caches already
//	logits      fp16  [1, chunk, vocab]
//	keyCache    fp16  [layers, 1, kv_heads, context, head_dim]   state
//	valueCache  fp16  [layers, 1, kv_heads, context, head_dim]   state
//
// decode has chunk 1 and is the default; prefill has a longer chunk. position+chunk must not
// exceed context. A prompt may end within a chunk: ids after its end are ignored, as no token
// attends to a later one, and the next call overwrites what they left in the caches. Adapters
// are further pairs of functions, decode_NAME and prefill_NAME, over the same weights.
//
// The format is specified by https://github.com/apple/coremltools/tree/9.0/mlmodel/format.
package coreml

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"afmq/internal/disk"
	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// Export verifies the artifact, writes the package, reads it back and compares its palettes
// with the artifact's. The whole package is written, or nothing; equal inputs give equal bytes.
//
// Core ML computes in fp16: embeddings, norms, adapters and what the artifact keeps in BF16 or
// F32 are rounded to it, and a value beyond its range is an error. Errors that a user can act
// on are *fault.Error: fault.Usage, fault.Input (a damaged artifact, an adapter of another
// base), fault.Infeasible (what Core ML cannot express: palettes of 5 or 7 bits, rotary
// embeddings that depend on the length of the text) and fault.Output.
func Export(ctx context.Context, opts Options) (*Result, error) {
	began := time.Now()
	if err := opts.check(); err != nil {
		return nil, err
	}
	pool, closePool := compute.Workers(opts.Pool, opts.Threads)
	defer closePool()
	a, _, err := artifact.OpenVerified(ctx, opts.Artifact, artifact.VerifyOptions{Pool: pool, Progress: opts.Progress})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	e := &exporter{Options: opts, w: newWeights(a)}
	if err := e.prepare(ctx); err != nil {
		return nil, err
	}
	if err := e.build(); err != nil {
		return nil, err
	}
	return e.write(ctx, began)
}

type exporter struct {
	Options
	w         *weights
	file      *weightFile
	functions []function
}

// prepare opens the adapters, applies the defaults and checks that Core ML can express the
// model.
func (e *exporter) prepare(ctx context.Context) error {
	if e.Context == 0 {
		e.Context = min(DefaultContext, e.w.Config.MaxPositions)
	}
	if e.Chunk == 0 {
		e.Chunk = min(DefaultChunk, e.Context)
	}
	if e.Chunk > e.Context {
		return fault.Usagef("a chunk of %d tokens exceeds the context of %d", e.Chunk, e.Context)
	}
	if err := e.checkTarget(); err != nil {
		return err
	}
	for i := range e.Adapters {
		ad, err := e.w.OpenAdapter(ctx, e.Adapters[i].Name, e.Adapters[i].Dir, e.AllowUnbound)
		if err != nil {
			return err
		}
		e.Adapters[i].open = ad
	}
	return nil
}

// checkTarget checks the artifact against the rules of the target.
func (e *exporter) checkTarget() error {
	t, err := target.Named(e.Target)
	if err != nil {
		return err
	}
	return t.CheckArtifact(e.w.Reader, e.Context)
}

// build builds the functions: decode and prefill of the base, then of each adapter.
func (e *exporter) build() error {
	e.file = newWeightFile()
	bases := []*Adapter{nil}
	for i := range e.Adapters {
		bases = append(bases, &e.Adapters[i])
	}
	for _, a := range bases {
		suffix := ""
		if a != nil {
			suffix = "_" + identifier(a.Name)
		}
		for _, f := range []struct {
			name  string
			chunk int
		}{{"decode", 1}, {"prefill", e.Chunk}} {
			d := decoder{
				builder: newBuilder(e.file), w: e.w, cfg: e.w.Config, adapter: a, chunk: f.chunk, context: e.Context,
			}
			shape, err := d.build()
			if err != nil {
				return err
			}
			e.functions = append(e.functions, function{f.name + suffix, f.chunk, shape, d.ops})
		}
	}
	return nil
}

// job identifies the export, for the staging directory.
func (e *exporter) job() []byte {
	job := map[string]any{"command": "export", "to": "coreml", "target": e.Target, "context": e.Context, "chunk": e.Chunk, "metadata": e.w.Metadata(e.ToolVersion)}
	data, err := json.Marshal(job)
	if err != nil {
		panic(err) // strings and numbers
	}
	return data
}

// write writes the package and checks it.
func (e *exporter) write(ctx context.Context, began time.Time) (*Result, error) {
	hash := e.w.Manifest.ContentHash
	spec := encodeModel(versions[e.Target], e.functions, cacheShape(e.w.Config, e.Context), e.w.Metadata(e.ToolVersion))
	manifest, err := packageManifest(hash)
	if err != nil {
		return nil, err
	}
	total := e.file.size + int64(len(spec)+len(manifest))
	sd, err := stage.Open(e.Out, e.job(), stage.Options{NeedBytes: total, Restart: e.Restart})
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			sd.Discard()
		}
	}()
	e.Progress.Stage(progress.Stage{Name: StageWrite, Work: e.file.size})
	defer e.Progress.Done()
	if err := e.writeFiles(ctx, sd, spec, manifest); err != nil {
		return nil, err
	}
	palettes, err := check(ctx, sd.Path(""), e.w.Reader)
	if err != nil {
		return nil, err
	}
	done = true
	if err := sd.End(nil); err != nil {
		return nil, err
	}
	r := &Result{
		ContentHash: hash, Bytes: total, WeightBytes: e.file.size, Target: e.Target, Context: e.Context, Chunk: e.Chunk, Palettes: palettes,
		Seconds: time.Since(began).Seconds(), PeakRSSBytes: rss.Peak(),
	}
	for _, f := range e.functions {
		r.Functions = append(r.Functions, f.name)
	}
	return r, nil
}

func (e *exporter) writeFiles(ctx context.Context, sd *stage.Dir, spec, manifest []byte) error {
	dir := sd.Path("")
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, weightsFile)), 0o777); err != nil {
		return fault.Writing(e.Out, err)
	}
	if err := e.writeWeights(ctx, filepath.Join(dir, weightsFile)); err != nil {
		return err
	}
	for name, data := range map[string][]byte{modelFile: spec, manifestFile: manifest} {
		if err := disk.WriteFile(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	for p := filepath.Dir(weightsFile); p != "."; p = filepath.Dir(p) {
		if err := disk.SyncDir(filepath.Join(dir, p)); err != nil {
			return fault.Writing(e.Out, err)
		}
	}
	return nil
}

// writeWeights writes weight.bin.
func (e *exporter) writeWeights(ctx context.Context, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fault.Writing(path, err)
	}
	defer f.Close()
	err = e.w.Guard(func() error { return e.file.writeTo(ctx, &outputFile{f}, e.Progress.Advance) })
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fault.Writing(path, err)
	}
	return fault.Writing(path, f.Close())
}

// outputFile is a file whose write errors are of kind fault.Output.
type outputFile struct{ *os.File }

func (o *outputFile) Write(p []byte) (int, error) {
	n, err := o.File.Write(p)
	if err != nil {
		err = fault.Writing(o.Name(), err)
	}
	return n, err
}

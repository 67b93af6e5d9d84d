// Package mlx writes an artifact as a directory that mlx-lm loads. It needs no MLX.
//
// Matrices on an affine grid are the bytes of the artifact: codes, scales and biases become X.weight,
// X.scales and X.biases, which MLX multiplies without dequantizing them first (mlx.nn.QuantizedLinear
// and QuantizedEmbedding). The key "quantization" of config.json has their bits and group size,
// by module where they differ. With [Options.As] everything is dequantized instead.
//
// config.json is the artifact's, with the keys that mlx-lm's model classes read set to what the
// model computes: mlx-lm has defaults of its own, and most of its classes know only rope_theta and
// rope_scaling. What its classes do not compute is refused by name.
//
// An adapter becomes a directory adapters/NAME, for --adapter-path of mlx-lm's programs.
//
// MLX's side is that of mlx 0.32.4 and mlx-lm 0.32.2.
package mlx

import (
	"context"
	"path/filepath"
	"time"

	"afmq/internal/rss"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/internal/directory"
	"afmq/pkg/export/internal/source"
)

// Export verifies the artifact and writes the directory, then reads the weights back and compares
// them with what was written. The whole directory is written, or nothing. Equal inputs give equal
// bytes, for any number of threads.
//
// Errors that a user can act on are *fault.Error: fault.Usage, fault.Input (a damaged artifact, an
// adapter of another base), fault.Infeasible (what MLX or mlx-lm cannot express, a value that is too
// large for F16) and fault.Output.
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
	e := &exporter{Options: opts, s: source.New(a, "MLX")}
	job, err := e.prepare(ctx)
	if err != nil {
		return nil, err
	}
	sizes, err := job.Run(ctx)
	if err != nil {
		return nil, err
	}
	r := &Result{
		ContentHash: a.Manifest.ContentHash, Bytes: sizes.Weights, Tensors: len(e.tensors), Quantized: len(e.codes), Kept: e.kept,
		Bits: e.common.bits, GroupSize: e.common.group, Type: directory.TypeNames[e.dtype], Context: e.Context, As: e.As,
		Adapters: []AdapterFile{}, Notes: append([]string{}, e.notes...),
	}
	for i, ad := range e.adapters {
		f := AdapterFile{Name: ad.Name, Dir: filepath.Join(opts.Out, directory.AdaptersDir, ad.Name), Bytes: sizes.Adapters[i], SHA256: ad.Digest}
		f.Rank = e.unified[i].Rank
		r.Adapters = append(r.Adapters, f)
	}
	r.Seconds, r.PeakRSSBytes = time.Since(began).Seconds(), rss.Peak()
	return r, nil
}

// prepare checks that mlx-lm can run the model and lists everything that is written.
func (e *exporter) prepare(ctx context.Context) (*directory.Job, error) {
	if e.Context == 0 {
		e.Context = e.s.Config.MaxPositions
	}
	if err := e.checkModel(); err != nil {
		return nil, err
	}
	if err := e.layout(ctx); err != nil {
		return nil, err
	}
	var adapters []directory.Adapter
	for _, a := range e.Adapters {
		open, err := e.s.OpenAdapter(ctx, a.Name, a.Dir, e.AllowUnbound)
		if err != nil {
			return nil, err
		}
		e.adapters = append(e.adapters, open)
		e.unified = append(e.unified, directory.Unify(open.Adapter))
		adapters = append(adapters, e.adapter(len(e.adapters)-1))
	}
	config, err := e.config()
	if err != nil {
		return nil, err
	}
	metadata := e.s.Metadata(e.ToolVersion)
	identity := map[string]any{"command": "export", "to": "mlx", "as": e.As, "context": e.Context, "metadata": metadata}
	metadata["format"] = "mlx"
	return &directory.Job{
		Source: e.s, Out: e.Out, Identity: identity, Restart: e.Restart, Config: config,
		Weights: directory.Weights{Tensors: e.tensors, Metadata: metadata}, Adapters: adapters,
		Progress: e.Progress, Write: StageWrite, Read: StageRead,
	}, nil
}

// Package compressed writes an artifact as a directory in the format of compressed-tensors, which
// transformers (with the Python package of that name) and vLLM load. It needs neither.
//
// Matrices on a grid of integers are written in the format pack-quantized: X.weight_packed, X.weight_scale,
// X.weight_shape and, with zero points, X.weight_zero_point. quantization_config of config.json has
// a group for each combination of bits, group size and zero points. With [Options.As] everything is
// dequantized instead, to an ordinary checkpoint.
//
// Codes, zero points and scales are the bytes of the artifact.
//
// An adapter becomes a directory adapters/NAME in PEFT's format, with one rank and one alpha for all
// modules, which vLLM needs.
//
// The format is that of compressed-tensors 0.20.1.
package compressed

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"afmq/internal/rss"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/internal/directory"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
)

// families are the values of model_type whose directories were held to transformers and vLLM.
var families = []string{"llama", "mistral", "qwen2", "qwen3"}

// Export verifies the artifact and writes the directory, then reads the weights back and compares
// them with what was written. The whole directory is written, or nothing. Equal inputs give equal
// bytes, for any number of threads.
//
// Errors that a user can act on are *fault.Error: fault.Usage, fault.Input (a damaged artifact, an
// adapter of another base), fault.Infeasible (what the format cannot express, a value that is too
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
	e := &exporter{Options: opts, s: source.New(a, "compressed-tensors")}
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
		Schemes: []Scheme{}, Type: directory.TypeNames[e.dtype], As: e.As, Adapters: []AdapterFile{}, Notes: append([]string{}, e.notes...),
	}
	for _, s := range e.schemes {
		r.Schemes = append(r.Schemes, Scheme{s.Bits, s.Group, s.ZeroPoint, len(s.modules)})
	}
	for i, ad := range e.adapters {
		f := AdapterFile{Name: ad.Name, Dir: filepath.Join(opts.Out, directory.AdaptersDir, ad.Name), Bytes: sizes.Adapters[i], SHA256: ad.Digest}
		f.Rank = e.ranks[i]
		r.Adapters = append(r.Adapters, f)
	}
	r.Seconds, r.PeakRSSBytes = time.Since(began).Seconds(), rss.Peak()
	return r, nil
}

// prepare lists everything that is written.
func (e *exporter) prepare(ctx context.Context) (*directory.Job, error) {
	if c := e.s.Config; !slices.Contains(families, c.ModelType) {
		return nil, fault.Infeasiblef("%s: %s models in this format are not verified; %s are", e.Artifact, c.ModelType, strings.Join(families, ", ")).
			WithHint("afmq dequantize writes an ordinary checkpoint")
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
		adapters = append(adapters, e.adapter(open))
	}
	config, err := e.config()
	if err != nil {
		return nil, err
	}
	metadata := e.s.Metadata(e.ToolVersion)
	metadata["format"] = "pt" // what transformers asks for
	return &directory.Job{
		Source: e.s, Out: e.Out, Restart: e.Restart, Config: config,
		Identity: map[string]any{"command": "export", "to": "compressed-tensors", "as": e.As, "metadata": metadata},
		Weights:  directory.Weights{Tensors: e.tensors, Metadata: metadata}, Adapters: adapters,
		Progress: e.Progress, Write: StageWrite, Read: StageRead,
	}, nil
}

// Package coreai writes an artifact as a bundle for Core AI (iOS, iPadOS and macOS 27): the asset
// NAME.aimodel, the tokenizer and metadata.json, as the runner of Apple's coreai-models expects
// them.
//
// The asset keeps the artifact's palettes: the packed indices, tables and row scales are the same
// bits, and Core AI expands them by lut_to_dense and blockwise_shift_scale. It is compiled by
// Apple's Python package coreai-core, whose exact version scripts/coreai/requirements.txt names;
// Export runs the interpreter of [Options.Python] with a program that this package carries.
//
// The dynamic shape has one function for the base and one for each adapter, over the same
// weights:
//
//	main, main_NAME
//	    input_ids     int32 [1, q]
//	    position_ids  int32 [1, n]       0, 1, … n-1; the last q belong to input_ids
//	    logits        fp16  [1, q, vocab]
//	    keyCache      fp16  [layers, 1, kv_heads, s, head_dim]   state, s at least n
//	    valueCache    fp16  [layers, 1, kv_heads, s, head_dim]   state
//
// The static shape has load_embeddings, gather_embeddings_Q, extend_C_Q and prompt_opt_C_Q for
// Q of 8, 16 and 64 tokens and caches of C positions; an adapter adds adapter_NAME_extend_C_Q and
// adapter_NAME_prompt_opt_C_Q. scripts/coreai/static.py documents them.
//
// Where Core AI's reference runtime runs, which is Linux and macOS, Export runs the program and
// compares its logits with the engine's.
package coreai

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
	"afmq/pkg/export/internal/source"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// Export verifies the artifact, compiles the asset, compares the weights in it with the
// artifact's, runs it, and writes the bundle. The whole bundle is written, or nothing.
//
// Core AI computes in fp16: embeddings, norms, adapters and what the artifact keeps in BF16 or
// F32 are rounded to it, and a value beyond its range is an error. Errors that a user can act on
// are *fault.Error: fault.Usage, fault.Input (a damaged artifact, an adapter of another base, no
// usable Python), fault.Infeasible (what Core AI cannot express: palettes of 5 or 7 bits, rotary
// embeddings that depend on the length of the text) and fault.Output.
func Export(ctx context.Context, opts Options) (_ *Result, err error) {
	defer compute.Recover(&err)
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
	e := &exporter{Options: opts, s: source.New(a, "Core AI"), pool: pool}
	if err := e.prepare(ctx); err != nil {
		return nil, err
	}
	r, err := e.write(ctx)
	if err != nil {
		return nil, err
	}
	r.Warnings = append(e.warnings(), r.Warnings...)
	r.Seconds, r.PeakRSSBytes = time.Since(began).Seconds(), rss.Peak()
	return r, nil
}

type exporter struct {
	Options
	s      *source.Source
	pool   *compute.Pool
	text   []int32 // of CheckTokens
	corpus []int32 // CheckData
}

// prepare opens the adapters, applies the defaults and checks that Core AI can express the model.
func (e *exporter) prepare(ctx context.Context) error {
	if e.Context == 0 {
		e.Context = e.defaultContext()
	}
	t, err := target.Named(targets[e.Shape])
	if err != nil {
		return err
	}
	if err := t.CheckArtifact(e.s.Reader, e.Context); err != nil {
		return err
	}
	if e.CheckTokens > e.Context {
		e.CheckTokens = e.Context
	}
	for i := range e.Adapters {
		ad, err := e.s.OpenAdapter(ctx, e.Adapters[i].Name, e.Adapters[i].Dir, e.AllowUnbound)
		if err != nil {
			return err
		}
		e.Adapters[i].open = ad
	}
	if e.SkipCompile {
		return nil
	}
	return e.readTexts()
}

// defaultContext returns what the shape has by default, or the most that the model has. That of
// the static shape is a multiple of 64, or of 8 below that.
func (e *exporter) defaultContext() int {
	if e.Shape == Dynamic {
		return min(DefaultDynamicContext, e.s.Config.MaxPositions)
	}
	n := min(DefaultStaticContext, e.s.Config.MaxPositions)
	if n >= 64 {
		return n / 64 * 64
	}
	return n / 8 * 8
}

// targets are the targets whose rules a program of a shape keeps.
var targets = map[Shape]string{Dynamic: "coreai-macos", Static: "coreai-ios"}

func (e *exporter) asset() string { return e.Name + ".aimodel" }

// identity identifies the export, for the staging directory.
func (e *exporter) identity() []byte {
	data, err := json.Marshal(map[string]any{
		"command": "export", "to": "coreai", "shape": e.Shape, "context": e.Context, "name": e.Name,
		"adapter_inputs": e.AdapterInputs, "skip_compile": e.SkipCompile, "metadata": e.s.Metadata(e.ToolVersion),
	})
	if err != nil {
		panic(err) // strings and numbers
	}
	return data
}

// buildDir is the directory of a bundle without its asset that has what compiles it.
const buildDir = "build"

// write writes the bundle.
func (e *exporter) write(ctx context.Context) (*Result, error) {
	j, consts, err := e.newJob()
	if err != nil {
		return nil, err
	}
	encoded, err := j.encode()
	if err != nil {
		return nil, err
	}
	sd, err := stage.Open(e.Out, e.identity(), stage.Options{NeedBytes: consts.size * e.copies(), Restart: e.Restart})
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			sd.Discard()
		}
	}()
	w := &workspace{exporter: e, sd: sd, dir: sd.StatePath("bridge"), vocab: e.s.Config.VocabSize}
	if e.SkipCompile {
		w.dir = sd.Path(buildDir)
	}
	r := &Result{ContentHash: e.s.Manifest.ContentHash, Shape: e.Shape, Context: e.Context, Check: []Check{}, Data: []DataCheck{}, Functions: []string{}, Command: []string{}}
	if err := w.prepare(ctx, encoded, consts, r); err != nil {
		return nil, err
	}
	if w.bridge != nil {
		err := w.compile(ctx, r)
		w.bridge.stop() // before its files are removed
		if err != nil {
			return nil, err
		}
	}
	if err := e.writeBundle(ctx, sd, r); err != nil {
		return nil, err
	}
	if r.Bytes, err = sizeOf(sd.Path("")); err != nil {
		return nil, err
	}
	done = true
	if err := sd.End(nil); err != nil {
		return nil, err
	}
	return r, nil
}

// copies is the number of files about as large as the constants that exist at a time.
func (e *exporter) copies() int64 {
	switch {
	case e.SkipCompile:
		return 1
	case e.CheckTokens < 0 && e.CheckData == "":
		return 2 // the constants and the asset
	case e.Shape == Static && e.CheckTokens > 0:
		return 5 // the twin, the fp16 program without constraints, and the runtime's form of one
	}
	return 4 // the twin and the runtime's form of it
}

// workspace is a bundle under construction.
type workspace struct {
	*exporter
	sd     *stage.Dir
	dir    string // with the bridge, job.json and constants.bin
	vocab  int
	bridge *bridge // nil if nothing is compiled
}

func (w *workspace) job() string       { return filepath.Join(w.dir, "job.json") }
func (w *workspace) constants() string { return filepath.Join(w.dir, "constants.bin") }

// prepare writes what the compiler needs. The bridge is started first, as its absence is the
// likeliest error.
func (w *workspace) prepare(ctx context.Context, encoded []byte, consts *constants, r *Result) error {
	if err := writeBridge(w.dir); err != nil {
		return err
	}
	if w.SkipCompile {
		r.Command = []string{w.Python, filepath.Join(w.Out, buildDir, "bridge.py"), filepath.Join(w.Out, buildDir)}
	} else {
		temp := filepath.Join(w.dir, "tmp")
		if err := os.MkdirAll(temp, 0o777); err != nil {
			return fault.Writing(temp, err)
		}
		b, err := startBridge(ctx, w.Python, w.dir, temp, w.sd.Target())
		if err != nil {
			return err
		}
		w.bridge, r.Compiler = b, &b.versions
	}
	if err := w.writeInputs(ctx, encoded, consts); err != nil {
		if w.bridge != nil {
			w.bridge.stop()
		}
		return err
	}
	return nil
}

func (w *workspace) writeInputs(ctx context.Context, encoded []byte, consts *constants) error {
	w.Progress.Stage(progress.Stage{Name: StageConstants, Work: consts.size})
	defer w.Progress.Done()
	if err := disk.WriteFile(w.job(), encoded); err != nil {
		return err
	}
	return w.s.Guard(func() error { return consts.writeTo(ctx, w.constants(), w.Progress.Advance) })
}

// compile makes the asset and checks it.
func (w *workspace) compile(ctx context.Context, r *Result) error {
	asset := w.sd.Path(w.asset())
	w.Progress.Stage(progress.Stage{Name: StageCompile, Work: 1})
	a, err := w.bridge.ask(ctx, w.request("build", asset, "float16"))
	if err != nil {
		return err
	}
	r.Functions, r.Reproducible = a.Functions, a.Reproducible
	if _, err := w.bridge.ask(ctx, request{Do: "stamp", Job: w.job(), Asset: asset}); err != nil {
		return err
	}
	w.Progress.Done()
	if err := syncTree(asset); err != nil {
		return err
	}
	if r.AssetBytes, err = sizeOf(asset); err != nil {
		return err
	}
	if r.Palettes, err = w.compareWeights(ctx, filepath.Join(asset, "main.mlirb")); err != nil {
		return err
	}
	return w.run(ctx, asset, r)
}

// request returns a request that names the job and its constants.
func (w *workspace) request(do, asset, precision string) request {
	return request{Do: do, Job: w.job(), Constants: w.constants(), Asset: asset, Precision: precision}
}

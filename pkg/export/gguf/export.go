// Package gguf writes an artifact as a GGUF file, which llama.cpp and the programs built on it
// run. It needs none of them.
//
// The file has the weights, the tokenizer and the chat template. Its keys and tensor names are
// those of llama.cpp's architectures "llama", "qwen2" and "qwen3". Blocks of ggml are the bytes of the
// artifact. GGUF has no palettes: with [Options.As] matrices are dequantized to F16, BF16 or F32.
// Norms and biases are always F32.
//
// An adapter becomes a file of its own, for --lora of llama.cpp's programs. It names the content
// hash of the base and the digest of the adapter's weights.
//
// What llama.cpp does not have is refused by name: a sliding window that is shorter than the
// context, an output bias in qwen3, a pre-tokenizer without a counterpart. Differences that
// concern rare text only are in [Result].Notes.
//
// llama.cpp's side is that of the source in llama-cpp-python 0.3.36.
package gguf

import (
	"context"
	"os"
	"time"

	"afmq/internal/disk"
	"afmq/internal/rss"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/internal/source"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/progress"
)

// Export verifies the artifact and writes its file, and one for each adapter. Each file appears
// whole under its name, that of the model last; if one cannot be written, none is left. Equal
// inputs give equal bytes, for any number of threads.
//
// Errors that a user can act on are *fault.Error: fault.Usage, fault.Input (a damaged artifact, an
// adapter of another base), fault.Infeasible (what GGUF or llama.cpp cannot express, a value that
// is too large for F16) and fault.Output.
func Export(ctx context.Context, opts Options) (*Result, error) {
	began := time.Now()
	if err := opts.check(); err != nil {
		return nil, err
	}
	e := &exporter{Options: opts}
	if err := e.checkTargets(); err != nil {
		return nil, err
	}
	pool, closePool := compute.Workers(opts.Pool, opts.Threads)
	defer closePool()
	a, _, err := artifact.OpenVerified(ctx, opts.Artifact, artifact.VerifyOptions{Pool: pool, Progress: opts.Progress})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	e.pool, e.s = pool, source.New(a, "llama.cpp")
	if err := e.prepare(ctx); err != nil {
		return nil, err
	}
	r := &Result{
		ContentHash: a.Manifest.ContentHash, Tensors: len(e.tensors), Architecture: e.arch.Name,
		Tokenizer: e.vocabulary.model, PreTokenizer: e.vocabulary.pre, Context: e.Context, As: e.As,
		Adapters: []AdapterFile{}, Notes: append([]string{}, e.vocabulary.notes...),
	}
	if err := e.publish(ctx, r); err != nil {
		return nil, err
	}
	r.Seconds, r.PeakRSSBytes = time.Since(began).Seconds(), rss.Peak()
	return r, nil
}

type exporter struct {
	Options
	pool       *compute.Pool
	s          *source.Source
	arch       ggufmodel.Architecture
	vocabulary *vocabulary
	metadata   []file.KV
	tensors    []tensor
}

// checkTargets returns an error if one of the files exists.
func (e *exporter) checkTargets() error {
	if err := disk.CheckNew(e.Out); err != nil {
		return err
	}
	for _, a := range e.Adapters {
		if err := disk.CheckNew(e.adapterPath(a.Name)); err != nil {
			return err
		}
	}
	return nil
}

// prepare lists the tensors, computes the metadata and opens the adapters.
func (e *exporter) prepare(ctx context.Context) error {
	if e.Context == 0 {
		e.Context = e.s.Config.MaxPositions
	}
	rope, err := e.describe()
	if err != nil {
		return err
	}
	if err := e.layout(rope); err != nil {
		return err
	}
	e.setFileType()
	for i := range e.Adapters {
		a := &e.Adapters[i]
		if a.open, err = e.s.OpenAdapter(ctx, a.Name, a.Dir, e.AllowUnbound); err != nil {
			return err
		}
	}
	return nil
}

// describe computes the metadata, all but the value of the type of the file, and returns the factors
// of the rotary frequencies.
func (e *exporter) describe() ([]factors, error) {
	if err := e.checkModel(); err != nil {
		return nil, err
	}
	keys, rope, err := e.scaling()
	if err != nil {
		return nil, err
	}
	if e.vocabulary, err = readVocabulary(e.s.Dir, e.s.Config); err != nil {
		return nil, err
	}
	e.metadata = e.withVersion([]file.KV{
		{Key: "general.architecture", Value: e.arch.Name},
		{Key: "general.type", Value: "model"},
		{Key: "general.name", Value: e.Name},
		{Key: fileTypeKey, Value: uint32(0)},
		{Key: "afmq.content_hash", Value: e.s.Manifest.ContentHash},
	})
	e.metadata = append(e.metadata, e.hyperparameters()...)
	e.metadata = append(e.metadata, keys...)
	e.metadata = append(e.metadata, e.vocabulary.keys...)
	return rope, nil
}

const fileTypeKey = "general.file_type"

// setFileType sets the value of the type of the file from its tensors.
func (e *exporter) setFileType() {
	for i := range e.metadata {
		if e.metadata[i].Key == fileTypeKey {
			e.metadata[i].Value = fileType(e.tensors)
		}
	}
}

// withVersion appends the version of the program, if it is known.
func (e *exporter) withVersion(kvs []file.KV) []file.KV {
	if e.ToolVersion != "" {
		kvs = append(kvs, file.KV{Key: "afmq.version", Value: e.ToolVersion})
	}
	return kvs
}

// output is a file that is being written.
type output struct {
	path    string
	w       *file.Writer
	tensors []tensor
}

// publish writes all files and publishes them, that of the model last.
func (e *exporter) publish(ctx context.Context, r *Result) (err error) {
	var outputs []output
	published := 0
	defer func() {
		if err == nil {
			return
		}
		for i, o := range outputs {
			if i < published {
				os.Remove(o.path)
			} else {
				o.w.Abort()
			}
		}
	}()
	total := int64(0)
	create := func(path string, metadata []file.KV, tensors []tensor) (int64, error) {
		list, bytes := infos(tensors)
		_, size, err := file.FileSize(metadata, list)
		if err != nil {
			return 0, err
		}
		w, err := file.Create(path, metadata, list)
		if err != nil {
			return 0, err
		}
		outputs, total = append(outputs, output{path, w, tensors}), total+bytes
		return size, nil
	}
	for i := range e.Adapters {
		a := &e.Adapters[i]
		tensors, alpha := e.adapterTensors(a)
		f := AdapterFile{Name: a.Name, File: e.adapterPath(a.Name), SHA256: a.open.Digest}
		if f.Bytes, err = create(f.File, e.adapterMetadata(a, alpha), tensors); err != nil {
			return err
		}
		r.Adapters = append(r.Adapters, f)
	}
	if r.Bytes, err = create(e.Out, e.metadata, e.tensors); err != nil {
		return err
	}
	e.Progress.Stage(progress.Stage{Name: StageWrite, Work: total})
	defer e.Progress.Done()
	for _, o := range outputs {
		if err := e.write(ctx, o.w, o.tensors); err != nil {
			return err
		}
	}
	for _, o := range outputs {
		if err := o.w.Close(); err != nil {
			return err
		}
		published++
	}
	return nil
}

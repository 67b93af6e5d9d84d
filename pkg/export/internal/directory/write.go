// Package directory writes an artifact as a directory of the kind that Hugging Face's tools have:
// config.json, one file of weights, the files of the tokenizer, and adapters in directories of
// their own.
package directory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"

	"afmq/internal/disk"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// AdaptersDir is the directory of the adapters.
const AdaptersDir = "adapters"

// indexFile is the index of the weights, which tools for several machines read.
const indexFile = artifact.WeightsFile + ".index.json"

// Weights is a file of weights.
type Weights struct {
	Tensors  []Tensor
	Metadata map[string]string
}

// infos returns the descriptions of the tensors, and the size of the file. It orders the tensors by
// the size of their elements, so that each is aligned.
func (w *Weights) infos() (list []safetensors.Info, total int64, err error) {
	slices.SortStableFunc(w.Tensors, func(a, b Tensor) int { return b.Info.DType.Size() - a.Info.DType.Size() })
	for _, t := range w.Tensors {
		list = append(list, t.Info)
	}
	_, total, err = safetensors.FileSize(list, w.Metadata)
	return list, total, err
}

// Adapter is a directory adapters/NAME with a file of weights and a configuration.
type Adapter struct {
	Name       string
	File       string // of the weights
	Weights    Weights
	ConfigFile string
	Config     []byte

	bytes int64
	infos []safetensors.Info
}

// Job is a directory to write.
type Job struct {
	Source      *source.Source
	Out         string         // must not exist, or be empty
	Identity    map[string]any // of the job, for the staging directory
	Restart     bool           // discard what an interrupted run left
	Config      []byte         // config.json
	Weights     Weights        // model.safetensors
	Adapters    []Adapter
	Progress    progress.Reporter
	Write, Read string // the stages in which files are written and read back
}

// Sizes are those of the files of weights, in bytes.
type Sizes struct {
	Weights  int64
	Adapters []int64 // in the order of Job.Adapters
}

// Run writes the directory and publishes it: all of it, or nothing. Before, it reads every tensor
// back and compares it with what was written.
func (j *Job) Run(ctx context.Context) (*Sizes, error) {
	infos, total, err := j.Weights.infos()
	if err != nil {
		return nil, err
	}
	sizes, need := &Sizes{Weights: total}, total+int64(len(j.Config))
	for i := range j.Adapters {
		a := &j.Adapters[i]
		if a.infos, a.bytes, err = a.Weights.infos(); err != nil {
			return nil, err
		}
		sizes.Adapters = append(sizes.Adapters, a.bytes)
		need += a.bytes + int64(len(a.Config))
	}
	for _, f := range j.Source.Manifest.Files {
		if copied(f.Name) {
			need += f.Bytes
		}
	}
	identity, err := json.Marshal(j.Identity)
	if err != nil {
		return nil, err
	}
	sd, err := stage.Open(j.Out, identity, stage.Options{NeedBytes: need, Restart: j.Restart})
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			sd.Discard()
		}
	}()
	if err := j.write(ctx, sd, infos); err != nil {
		return nil, err
	}
	done = true
	return sizes, sd.End(nil)
}

// copied reports whether a file of the artifact goes into the directory unchanged.
func copied(name string) bool {
	return name != artifact.WeightsFile && name != artifact.ConfigFile && name != indexFile
}

// write writes all files and reads the weights back.
func (j *Job) write(ctx context.Context, sd *stage.Dir, infos []safetensors.Info) error {
	files := []*file{{path: sd.Path(artifact.WeightsFile), Weights: j.Weights, infos: infos}}
	for i := range j.Adapters {
		a := &j.Adapters[i]
		dir := sd.Path(filepath.Join(AdaptersDir, a.Name))
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return fault.Writing(j.Out, err)
		}
		if err := disk.WriteFile(filepath.Join(dir, a.ConfigFile), a.Config); err != nil {
			return err
		}
		files = append(files, &file{path: filepath.Join(dir, a.File), Weights: a.Weights, infos: a.infos})
	}
	work := int64(0)
	for _, f := range files {
		for _, t := range f.infos {
			n, err := t.Bytes()
			if err != nil {
				return err
			}
			work += n
		}
	}
	defer j.Progress.Done()
	j.Progress.Stage(progress.Stage{Name: j.Write, Work: work})
	for _, f := range files {
		if err := f.write(ctx, j.Progress); err != nil {
			return err
		}
	}
	if err := j.writeOthers(sd, infos); err != nil {
		return err
	}
	j.Progress.Stage(progress.Stage{Name: j.Read, Work: work})
	for _, f := range files {
		if err := f.check(ctx, j.Progress); err != nil {
			return err
		}
	}
	return nil
}

// writeOthers writes config.json, the index of the weights and the files that are copied.
func (j *Job) writeOthers(sd *stage.Dir, infos []safetensors.Info) error {
	if err := sd.WriteFile(artifact.ConfigFile, j.Config); err != nil {
		return err
	}
	if err := sd.WriteFile(indexFile, encodeIndex(infos)); err != nil {
		return err
	}
	for _, f := range j.Source.Manifest.Files {
		if !copied(f.Name) || artifact.IsTuningFile(f.Name) {
			continue
		}
		if err := artifact.CopyFile(j.Source.Dir, f, sd.WriteFile); err != nil {
			return err
		}
	}
	return nil
}

// encodeIndex returns model.safetensors.index.json.
func encodeIndex(infos []safetensors.Info) []byte {
	names, size := map[string]string{}, int64(0)
	for _, t := range infos {
		n, _ := t.Bytes() // it was written
		size += n
		names[t.Name] = artifact.WeightsFile
	}
	o := &Object{}
	o.Set("metadata", map[string]int64{"total_size": size})
	o.Set("weight_map", names)
	return o.Encode()
}

// file is a file of weights that is written and read back.
type file struct {
	Weights
	path   string
	infos  []safetensors.Info
	hashes []string // of the data of each tensor, hex SHA-256
}

func (f *file) write(ctx context.Context, p progress.Reporter) error {
	w, err := safetensors.Create(f.path, f.infos, f.Metadata)
	if err != nil {
		return err
	}
	for _, t := range f.Tensors {
		h := sha256.New()
		if err := t.Write(ctx, func(data []byte) error { return put(w, h, data, p) }); err != nil {
			w.Abort()
			return err
		}
		f.hashes = append(f.hashes, hex.EncodeToString(h.Sum(nil)))
		if t.Release != nil {
			t.Release()
		}
	}
	return w.Close()
}

func put(w *safetensors.Writer, h hash.Hash, data []byte, p progress.Reporter) error {
	h.Write(data)
	p.Advance(int64(len(data)))
	return w.Append(data)
}

// check compares the file with what was written.
func (f *file) check(ctx context.Context, p progress.Reporter) error {
	x, err := safetensors.Open(f.path)
	if err != nil {
		return fault.Writing(f.path, err)
	}
	defer x.Close()
	for i, info := range f.infos {
		t, ok := x.Tensor(info.Name)
		var d artifact.TensorDigest
		if ok {
			if d, err = artifact.DigestTensor(ctx, t); err != nil {
				return err
			}
		}
		if d.SHA256 != f.hashes[i] {
			return &fault.Error{Kind: fault.Output, File: f.path, Msg: fmt.Sprintf("tensor %q reads back with other bytes than were written", info.Name)}
		}
		t.Release()
		p.Advance(int64(len(t.Bytes())))
	}
	return nil
}

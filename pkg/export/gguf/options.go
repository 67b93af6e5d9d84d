package gguf

import (
	"path/filepath"
	"slices"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/progress"
)

// StageWrite is the stage in which Export writes the files, after [artifact.StageVerify].
const StageWrite = "write GGUF"

// Types are the values of Options.As.
var Types = []string{"f16", "bf16", "f32"}

// Options say what Export does. Artifact and Out are required; the zero value of every other
// field works.
type Options struct {
	Artifact string // directory of the artifact
	Out      string // file to create, FILE.gguf

	// As is the type in which matrices are written, one of Types; they are dequantized to it. If it is
	// empty, each matrix must have a form that GGUF has: blocks of ggml, F16, BF16 or F32.
	As       string
	Name     string    // general.name; that of Out, without .gguf, if empty
	Context  int       // context length in the file; 0 for all positions of the model
	Adapters []Adapter // each becomes a file beside Out, FILE-NAME.gguf

	AllowUnbound bool              // accept an adapter that does not name its base
	Pool         *compute.Pool     // nil for Threads workers of its own
	Threads      int               // where Pool is nil; 0 for all cores
	Progress     progress.Reporter // nil for progress.Silent
	ToolVersion  string            // recorded in the files; may be empty
}

// Adapter is a LoRA adapter that becomes a file of its own.
type Adapter struct {
	Name string // in the name of its file; letters, digits, '.', '-' and '_'
	Dir  string

	open *source.Adapter
}

// Result describes what Export wrote.
type Result struct {
	ContentHash  string        `json:"content_hash"`   // of the artifact
	Bytes        int64         `json:"bytes"`          // of the model's file
	Tensors      int           `json:"tensors"`        // in the model's file
	Architecture string        `json:"architecture"`   // general.architecture
	Tokenizer    string        `json:"tokenizer"`      // tokenizer.ggml.model
	PreTokenizer string        `json:"pre_tokenizer"`  // tokenizer.ggml.pre
	Context      int           `json:"context"`        // context length in the file
	As           string        `json:"as"`             // type of the matrices; "" if they kept theirs
	Adapters     []AdapterFile `json:"adapters"`       // in the order of Options.Adapters
	Notes        []string      `json:"notes"`          // what llama.cpp does otherwise, a sentence each
	Seconds      float64       `json:"seconds"`        // wall clock
	PeakRSSBytes int64         `json:"peak_rss_bytes"` // of the process so far
}

// AdapterFile is the file of an adapter.
type AdapterFile struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of the adapter's weights, which the file names
}

// check checks the options that need no file.
func (o *Options) check() error {
	switch {
	case o.Artifact == "":
		return fault.Usagef("no artifact directory")
	case o.Out == "":
		return fault.Usagef("no output file")
	case o.Context < 0:
		return fault.Usagef("context %d must be positive", o.Context)
	case o.As != "" && !slices.Contains(Types, o.As):
		return fault.Usagef("type %q: expected %s", o.As, strings.Join(Types, ", "))
	}
	if o.Name == "" {
		o.Name = strings.TrimSuffix(filepath.Base(o.Out), suffix)
	}
	o.Adapters = slices.Clone(o.Adapters) // they are opened; those of the caller stay as they are
	o.Progress = progress.Begin(o.Progress, artifact.StageVerify, StageWrite)
	names := map[string]bool{}
	for _, a := range o.Adapters {
		if a.Name == "" || strings.Trim(a.Name, nameCharacters) != "" {
			return fault.Usagef("adapter name %q: expected letters, digits, ., - and _", a.Name)
		}
		if names[a.Name] {
			return fault.Usagef("two adapters have the name %q", a.Name)
		}
		names[a.Name] = true
	}
	return nil
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

// suffix of the names of GGUF files.
const suffix = ".gguf"

// adapterPath returns the file of an adapter.
func (o *Options) adapterPath(name string) string {
	return strings.TrimSuffix(o.Out, suffix) + "-" + name + suffix
}

// matrixType returns the type that As names.
func (o *Options) matrixType() (ggml.Type, bool) { return ggml.ParseType(strings.ToUpper(o.As)) }

package coreml

import (
	"slices"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// StageWrite is the stage in which Export writes the package, after [artifact.StageVerify].
const StageWrite = "write package"

// Defaults of the options.
const (
	DefaultTarget  = "coreml-ios18"
	DefaultContext = 2048
	DefaultChunk   = 64
)

// Options say what Export does. Artifact and Out are required; the zero value of every other
// field works.
type Options struct {
	Artifact string // directory of the artifact
	Out      string // directory to create, named NAME.mlpackage; must not exist, or be empty

	Target   string    // coreml-ios18 or coreml-ios26, the oldest system that opens the package; empty for DefaultTarget
	Context  int       // positions of the caches; 0 for DefaultContext, or what the model has if that is less
	Chunk    int       // tokens in a call of prefill; 0 for DefaultChunk, or Context if that is less
	Adapters []Adapter // further functions

	Restart      bool              // discard what an interrupted run left
	AllowUnbound bool              // accept an adapter that does not name its base
	Pool         *compute.Pool     // nil for Threads workers of its own
	Threads      int               // where Pool is nil; 0 for all cores
	Progress     progress.Reporter // nil for progress.Silent
	ToolVersion  string            // recorded in the package; may be empty
}

// Adapter is a LoRA adapter that becomes functions of the package.
type Adapter struct {
	Name string // in the names of its functions; letters, digits, '-' and '_'
	Dir  string

	open *source.Adapter
}

// Result describes the package that Export wrote.
type Result struct {
	ContentHash  string   `json:"content_hash"`   // of the artifact
	Bytes        int64    `json:"bytes"`          // of the package
	WeightBytes  int64    `json:"weight_bytes"`   // of weight.bin
	Target       string   `json:"target"`         // the oldest system that opens the package: coreml-ios18
	Context      int      `json:"context"`        // positions of the caches
	Chunk        int      `json:"chunk"`          // tokens in a call of prefill
	Functions    []string `json:"functions"`      // the first is the default
	Palettes     int      `json:"palettes"`       // read back and equal to the artifact's, bit for bit
	Seconds      float64  `json:"seconds"`        // wall clock
	PeakRSSBytes int64    `json:"peak_rss_bytes"` // of the process so far
}

// check checks the options that need no file.
func (o *Options) check() error {
	if o.Target == "" {
		o.Target = DefaultTarget
	}
	if _, ok := versions[o.Target]; !ok {
		return fault.Usagef("target %.200q is not one of Core ML; those are %s", o.Target, strings.Join(target.OfExport("coreml"), ", "))
	}
	switch {
	case o.Artifact == "":
		return fault.Usagef("no artifact directory")
	case o.Out == "":
		return fault.Usagef("no output directory")
	case o.Context < 0 || o.Chunk < 0:
		return fault.Usagef("context %d and chunk %d must be positive", o.Context, o.Chunk)
	}
	o.Adapters = slices.Clone(o.Adapters) // they are opened; those of the caller stay as they are
	o.Progress = progress.Begin(o.Progress, artifact.StageVerify, StageWrite)
	names := map[string]string{}
	for _, a := range o.Adapters {
		id := identifier(a.Name)
		if id == "" || strings.ReplaceAll(a.Name, "-", "_") != id {
			return fault.Usagef("adapter name %q: expected letters, digits, - and _", a.Name)
		}
		if other, ok := names[id]; ok {
			return fault.Usagef("adapters %q and %q have the same function name, decode_%s", other, a.Name, id)
		}
		names[id] = a.Name
	}
	return nil
}

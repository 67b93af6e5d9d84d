package compressed

import (
	"slices"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/internal/directory"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// Stages of Export, after [artifact.StageVerify].
const (
	StageWrite = "write compressed-tensors model"
	StageRead  = "read it back"
)

// Types are the values of Options.As.
var Types = []string{"f16", "bf16"}

// Options say what Export does. Artifact and Out are required; the zero value of every other
// field works.
type Options struct {
	Artifact string // directory of the artifact
	Out      string // directory to create; must not exist, or be empty

	// As is the type in which all tensors are written, one of Types; they are dequantized to it. If it
	// is empty, each projection, and a head, must be on a grid of integers or kept as it was.
	As       string
	Adapters []Adapter // each becomes a directory adapters/NAME

	Restart      bool              // discard what an interrupted run left
	AllowUnbound bool              // accept an adapter that does not name its base
	Pool         *compute.Pool     // nil for Threads workers of its own
	Threads      int               // where Pool is nil; 0 for all cores
	Progress     progress.Reporter // nil for progress.Silent
	ToolVersion  string            // recorded in the files; may be empty
}

// Adapter is a LoRA adapter that becomes a directory of its own.
type Adapter struct {
	Name string // of the directory; letters, digits, '.', '-' and '_'
	Dir  string
}

// Result describes what Export wrote.
type Result struct {
	ContentHash  string        `json:"content_hash"`   // of the artifact
	Bytes        int64         `json:"bytes"`          // of model.safetensors
	Tensors      int           `json:"tensors"`        // in model.safetensors, each read back and equal
	Quantized    int           `json:"quantized"`      // matrices in codes, with the bits of the artifact
	Kept         int           `json:"kept"`           // matrices in 16 or 32 bits
	Schemes      []Scheme      `json:"schemes"`        // config_groups of config.json
	Type         string        `json:"type"`           // of scales, norms and other plain values: float16, bfloat16 or float32
	As           string        `json:"as"`             // type that everything was dequantized to; "" if codes were kept
	Adapters     []AdapterFile `json:"adapters"`       // in the order of Options.Adapters
	Notes        []string      `json:"notes"`          // what a program that loads it does otherwise, a sentence each
	Seconds      float64       `json:"seconds"`        // wall clock
	PeakRSSBytes int64         `json:"peak_rss_bytes"` // of the process so far
}

// Scheme is a way in which matrices are quantized.
type Scheme struct {
	Bits      int  `json:"bits"`
	GroupSize int  `json:"group_size"` // columns that share a scale; 0 for a whole row
	ZeroPoint bool `json:"zero_point"` // groups have a zero point
	Modules   int  `json:"modules"`    // that have it
}

// AdapterFile is the directory of an adapter.
type AdapterFile struct {
	Name   string `json:"name"`
	Dir    string `json:"dir"`
	Rank   int    `json:"rank"`
	Bytes  int64  `json:"bytes"`  // of adapter_model.safetensors
	SHA256 string `json:"sha256"` // of the source adapter's weights, which the file names
}

// check checks the options that need no file.
func (o *Options) check() error {
	switch {
	case o.Artifact == "":
		return fault.Usagef("no artifact directory")
	case o.Out == "":
		return fault.Usagef("no output directory")
	case o.As != "" && !slices.Contains(Types, o.As):
		return fault.Usagef("type %q: expected %s", o.As, strings.Join(Types, ", "))
	}
	o.Progress = progress.Begin(o.Progress, artifact.StageVerify, StageWrite, StageRead)
	var names []string
	for _, a := range o.Adapters {
		names = append(names, a.Name)
	}
	return directory.CheckNames(names)
}

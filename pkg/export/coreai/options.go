package coreai

import (
	"path/filepath"
	"regexp"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
)

// The stages of Export.
const (
	StageConstants = "write constants"
	StageCompile   = "compile"
	StageCompare   = "compare weights"
	StageRun       = "run"
	StageCheckData = "run text"
)

// Shape is the form of the program.
type Shape string

// The shapes.
const (
	// Dynamic takes any number of tokens and caches of any length: one function, for macOS.
	Dynamic Shape = "dynamic"
	// Static has one function for each number of tokens and each length of the caches, in the
	// form that the Neural Engine takes, for iOS.
	Static Shape = "static"
)

// Defaults of the options.
const (
	DefaultDynamicContext = 8192
	DefaultStaticContext  = 4096
	DefaultCheckTokens    = 16
)

// Options say what Export does. Artifact and Out are required; the zero value of every other
// field works.
type Options struct {
	Artifact string // directory of the artifact
	Out      string // directory to create; must not exist, or be empty
	Name     string // of the asset, NAME.aimodel; empty for the last element of Out

	Shape         Shape     // empty for Dynamic
	Context       int       // largest number of positions; 0 for the shape's default, or what the model has if that is less
	Adapters      []Adapter // further functions
	AdapterInputs bool      // one further function, main_lora, that takes an adapter as inputs; Dynamic only

	Python      string // interpreter; empty for python3
	SkipCompile bool   // write everything but the asset, and what compiles it

	CheckTokens int    // tokens of a text that the program is run on; 0 for DefaultCheckTokens, negative for none
	CheckData   string // text file that the program is run on besides; may be empty
	Reference   string // 16-bit checkpoint: the divergence from it on CheckData is measured; may be empty

	Restart      bool              // discard what an interrupted run left
	AllowUnbound bool              // accept an adapter that does not name its base
	Pool         *compute.Pool     // nil for Threads workers of its own
	Threads      int               // where Pool is nil; 0 for all cores
	Progress     progress.Reporter // nil for progress.Silent
	ToolVersion  string            // recorded in the asset; may be empty
}

// Adapter is a LoRA adapter that becomes a function of the asset.
type Adapter struct {
	Name string // in the names of its functions; letters, digits, '-' and '_'
	Dir  string

	open *source.Adapter
}

// Result describes the bundle that Export wrote.
type Result struct {
	ContentHash  string      `json:"content_hash"` // of the artifact
	Shape        Shape       `json:"shape"`
	Bytes        int64       `json:"bytes"`       // of the bundle
	AssetBytes   int64       `json:"asset_bytes"` // of the program and its weights; 0 if it was not compiled
	Context      int         `json:"context"`
	Functions    []string    `json:"functions"`
	Palettes     int         `json:"palettes"`     // found in the asset, equal to the artifact's bit for bit
	Compiler     *Compiler   `json:"compiler"`     // null if the asset was not compiled
	Reproducible bool        `json:"reproducible"` // equal inputs give an equal asset on this machine
	Command      []string    `json:"command"`      // compiles the asset, where SkipCompile is set
	Check        []Check     `json:"check"`        // of each function that was run
	Data         []DataCheck `json:"data"`         // of each function; empty without CheckData
	Seconds      float64     `json:"seconds"`      // wall clock
	PeakRSSBytes int64       `json:"peak_rss_bytes"`
	Warnings     []string    `json:"-"` // what Apple's runner will not take, a line each
}

// Compiler has the versions of what compiled an asset.
type Compiler struct {
	Python string `json:"python"`
	CoreAI string `json:"coreai-core"`
	NumPy  string `json:"numpy"`
}

// Check compares what a function computes with the engine, on the same tokens.
type Check struct {
	Function   string  `json:"function"`
	Functions  int     `json:"functions"` // that were run, of the static shape's many
	Tokens     int     `json:"tokens"`
	MaxLogit   float64 `json:"max_logit_difference"` // of the float32 program from the engine
	HalfTokens int     `json:"half_tokens"`
	HalfKL     float64 `json:"half_kl"` // mean KL of the fp16 program from the float32 one, nats a token
}

// DataCheck compares a function of the float32 program with the engine on a text. The mean
// divergences are in nats a token.
type DataCheck struct {
	Function          string   `json:"function"`
	Tokens            int      `json:"tokens"`              // scored
	Perplexity        float64  `json:"perplexity"`          // of the program
	EnginePerplexity  float64  `json:"engine_perplexity"`   // of the engine
	KL                float64  `json:"kl"`                  // of the program from the engine
	ReferenceKL       *float64 `json:"reference_kl"`        // of the program from the reference; null without one
	EngineReferenceKL *float64 `json:"engine_reference_kl"` // of the engine from the reference
}

var adapterName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// check checks the options that need no file and applies the defaults.
func (o *Options) check() error {
	switch {
	case o.Artifact == "":
		return fault.Usagef("no artifact directory")
	case o.Out == "":
		return fault.Usagef("no output directory")
	case o.Context < 0:
		return fault.Usagef("context %d must be positive", o.Context)
	case o.Reference != "" && o.CheckData == "":
		return fault.Usagef("a reference model is compared on a text; none is given")
	case o.SkipCompile && o.CheckData != "":
		return fault.Usagef("a text can be run only if the asset is compiled")
	}
	if o.Shape == "" {
		o.Shape = Dynamic
	}
	if o.Shape != Dynamic && o.Shape != Static {
		return fault.Usagef("shape %q: expected %s or %s", o.Shape, Dynamic, Static)
	}
	if o.AdapterInputs && (o.Shape != Dynamic || len(o.Adapters) == 0) {
		return fault.Usagef("adapters as inputs need the dynamic shape and at least one adapter")
	}
	if o.Name == "" {
		o.Name = strings.TrimSuffix(filepath.Base(filepath.Clean(o.Out)), ".aimodel")
	}
	if o.Name == "" || o.Name != filepath.Base(o.Name) || strings.HasPrefix(o.Name, ".") {
		return fault.Usagef("%q cannot name an asset", o.Name)
	}
	if o.CheckTokens == 0 {
		o.CheckTokens = DefaultCheckTokens
	}
	if o.Python == "" {
		o.Python = "python3"
	}
	seen := map[string]bool{}
	adapters := make([]Adapter, len(o.Adapters)) // they are opened; those of the caller stay as they are
	for i, a := range o.Adapters {
		if !adapterName.MatchString(a.Name) {
			return fault.Usagef("adapter name %q: expected letters, digits, - and _", a.Name)
		}
		if o.AdapterInputs && a.Name == "lora" {
			return fault.Usagef("an adapter named lora would have the name of the function that takes adapters as inputs")
		}
		if seen[a.Name] {
			return fault.Usagef("two adapters are named %q", a.Name)
		}
		seen[a.Name] = true
		adapters[i] = a
	}
	o.Adapters = adapters
	o.Progress = progress.Begin(o.Progress, o.stages()...)
	return nil
}

// stages are those that this job has, in their order.
func (o *Options) stages() []string {
	s := []string{artifact.StageVerify, StageConstants}
	if o.SkipCompile {
		return s
	}
	s = append(s, StageCompile, StageCompare)
	if o.CheckTokens > 0 {
		s = append(s, infer.StageLoad, StageRun)
	}
	if o.CheckData != "" {
		s = append(s, StageCheckData)
	}
	return s
}

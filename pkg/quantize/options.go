package quantize

import (
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/grid"
	"afmq/pkg/palettize"
	"afmq/pkg/progress"
	"afmq/pkg/sensitivity"
)

// DefaultBits is the default width of a palette index: look-up tables of 16 values.
const DefaultBits = 4

// Options say what Run does. Model and Out are required. Every other field may be zero: the
// result then has palettes of 4 bits, one look-up table for 16 rows, and row scales.
type Options struct {
	Model string // directory of the 16-bit checkpoint
	Out   string // directory to create; must not exist, or be empty

	// The width of each matrix comes from a plan; or from a request, for which Run scores the
	// modules and makes the plan; or, without either, from Bits and Overrides.
	Plan      *sensitivity.Plan
	PlanFile  string // file that Plan was read from, for error messages
	Request   *sensitivity.PlanOptions
	Method    sensitivity.Method     // scores for a request; empty for sensitivity.DefaultMethod
	Bits      int                    // bits per index, 1 to 8; 0 for DefaultBits
	Overrides []sensitivity.Override // the last match decides; not with a plan

	// Blocks is the type of the blocks in which projections are stored instead of palettes, as in
	// GGUF files; zero for palettes. Of a matrix whose columns they do not divide see
	// sensitivity.BlockWidths. Bits, GroupRows and NoRowScale do not apply; Plan and Request are
	// refused.
	Blocks ggml.Type
	// ExportTarget is the name of a target of package target, such as "coreai-ios". An artifact that
	// it cannot run is an error before any work. Empty for none, or for that of Plan.
	ExportTarget string

	GroupRows  int  // rows that share a look-up table; 0 for palettize.DefaultGroupRows; a plan's own with Plan
	NoRowScale bool // omit the fp16 scale of each palettized row (16 bits a row); a plan's own with Plan

	Calibration sensitivity.CalibrationOptions // calibration text; no files: none
	Compensate  string                         // artifact.GPTQ or artifact.NoCompensation; empty: GPTQ if there is calibration text
	Compute     compute.Arithmetic             // of the models' matrix products; statistics are always float32 and float64

	Restart     bool              // discard the state of an interrupted run
	Pool        *compute.Pool     // nil for Threads workers of its own
	Threads     int               // where Pool is nil; 0 for all cores
	Progress    progress.Reporter // nil for progress.Silent
	ToolVersion string            // recorded in the manifest; a run resumes only at the same version; empty for "unknown"
}

// check fills in the defaults. Errors are fault.Usage.
func (o *Options) check() error {
	if o.Blocks != 0 {
		if err := o.checkBlocks(); err != nil {
			return err
		}
	}
	if o.Bits == 0 {
		o.Bits = DefaultBits
	}
	if o.GroupRows == 0 {
		o.GroupRows = palettize.DefaultGroupRows
	}
	if o.Method == "" {
		o.Method = sensitivity.DefaultMethod
	}
	if o.ToolVersion == "" {
		o.ToolVersion = "unknown"
	}
	if o.Model == "" {
		return fault.Usagef("no checkpoint directory")
	}
	if o.Bits < 1 || o.Bits > 8 {
		return fault.Usagef("bits is %d; it may be 1 to 8", o.Bits)
	}
	if o.GroupRows < 1 || o.GroupRows > maxGroupRows {
		return fault.Usagef("group rows is %d; it may be 1 to %d", o.GroupRows, maxGroupRows)
	}
	if o.ExportTarget != "" {
		if _, err := target.Named(o.ExportTarget); err != nil {
			return err
		}
	}
	if err := o.checkWidths(); err != nil {
		return err
	}
	if o.Out == "" {
		return fault.Usagef("no output directory")
	}
	switch {
	case o.Compensate == "" && len(o.Calibration.Files) > 0:
		o.Compensate = artifact.GPTQ
	case o.Compensate == "":
		o.Compensate = artifact.NoCompensation
	case o.Compensate != artifact.GPTQ && o.Compensate != artifact.NoCompensation:
		return fault.Usagef("compensation %q is unknown; the methods are %s and %s", o.Compensate, artifact.GPTQ, artifact.NoCompensation)
	case o.Compensate == artifact.GPTQ && len(o.Calibration.Files) == 0:
		return fault.Usagef("compensation %q needs calibration text", artifact.GPTQ).
			WithHint("give --calib FILE or --calib builtin")
	}
	for _, ov := range o.Overrides {
		if err := ov.Check(); err != nil {
			return err
		}
	}
	o.Progress = progress.Begin(o.Progress, o.Stages()...)
	return nil
}

// checkBlocks checks what applies to blocks of ggml.
func (o *Options) checkBlocks() error {
	switch {
	case !o.Blocks.HasCodes():
		return fault.Usagef("%v is not a type of quantized blocks", o.Blocks)
	case o.Plan != nil || o.Request != nil:
		return fault.Usagef("a plan and a target choose among widths of palettes; blocks of ggml have one type and overrides")
	case o.Bits != 0 || o.GroupRows != 0 || o.NoRowScale:
		return fault.Usagef("bits, group rows and row scales belong to palettes; blocks of ggml have a type")
	}
	o.Bits, o.NoRowScale = artifact.CodeBits(o.Blocks), true
	return nil
}

// checkWidths checks what decides the widths, and adopts a plan's stored form.
func (o *Options) checkWidths() error {
	switch {
	case o.Plan != nil && o.Request != nil:
		return fault.Usagef("a plan and a budget exclude each other")
	case o.Plan != nil && len(o.Overrides) > 0:
		return fault.Usagef("a plan and overrides exclude each other: give the overrides when the plan is made, or edit the plan")
	case o.Plan != nil:
		o.GroupRows, o.NoRowScale = o.Plan.GroupRows, !o.Plan.RowScale
	case o.Request != nil:
		r := *o.Request
		if r.Overrides = o.Overrides; len(r.Bits) == 0 {
			r.Bits = sensitivity.DefaultBits()
		}
		r.Seed, r.ExportTarget = o.Calibration.Seed, o.ExportTarget
		o.Request = &r
		s := o.scoring()
		return s.Check()
	}
	return nil
}

// scoring returns the options by which the modules are scored for a request.
func (o *Options) scoring() sensitivity.Options {
	return sensitivity.Options{
		Model: o.Model, Method: o.Method, Bits: o.Request.Bits, GroupRows: o.GroupRows, NoRowScale: o.NoRowScale,
		Calibration: o.Calibration, Progress: o.Progress, ToolVersion: o.ToolVersion, Compute: o.Compute,
	}
}

// choice records what chooses the widths.
func (o *Options) choice() *artifact.ChoiceRecord {
	c := &artifact.ChoiceRecord{By: artifact.ByBits, Overrides: sensitivity.OverrideTexts(o.Overrides)}
	switch r := o.Request; {
	case o.Plan != nil:
		c.By = artifact.ByPlan
	case r != nil:
		c.By, c.Method, c.BPW, c.MaxBytes, c.Widths = artifact.ByTarget, string(o.Method), r.Target.BPW, r.Target.MaxBytes, r.Bits
		for _, t := range r.Ties {
			c.Tie = append(c.Tie, string(t))
		}
	}
	return c
}

// blocks returns the form of blocks, empty for palettes.
func (o *Options) blocks() string {
	if o.Blocks == 0 {
		return ""
	}
	return string(artifact.BlockForm(o.Blocks))
}

// run returns the number of columns that error compensation keeps together.
func (o *Options) run() int {
	if o.Blocks == 0 {
		return 1
	}
	return grid.FactorRun
}

// storage returns the stored form of palettes.
func (o *Options) storage() sensitivity.Storage {
	return sensitivity.Storage{GroupRows: o.GroupRows, RowScale: !o.NoRowScale}
}

// maxGroupRows exceeds the rows of any matrix of a supported model.
const maxGroupRows = 1 << 20

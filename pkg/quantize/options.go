package quantize

import (
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/palettize"
	"afmq/pkg/progress"
	"afmq/pkg/sensitivity"
)

// DefaultBits is the width of the reference recipe: palettes of 16 values.
const DefaultBits = 4

// Options say what Run does.
type Options struct {
	Model string // directory of the 16-bit checkpoint
	Out   string // directory to be made; must not exist, or be empty
	// What becomes of each matrix: a plan; or a request, for which the modules are scored
	// and a plan is made; or, with neither, Bits everywhere but for Overrides.
	Plan        *sensitivity.Plan
	PlanFile    string // where Plan was read from, for errors
	Request     *sensitivity.PlanOptions
	Method      sensitivity.Method             // of the scores for a request; empty for the default
	Bits        int                            // of an index, 1 to 8; 0 for DefaultBits
	GroupRows   int                            // output rows that share a look-up table; 0 for palettize.DefaultGroupRows
	RowScale    bool                           // give every palettized row an fp16 factor, 16 bits a row
	Overrides   []sensitivity.Override         // later ones win
	Calibration sensitivity.CalibrationOptions // no files: none
	Compensate  string                         // GPTQ or NoCompensation; empty: GPTQ where there is calibration text
	Restart     bool                           // discard the state that an interrupted run left
	Progress    progress.Reporter              // nil for none
	Compute     compute.Arithmetic             // of the models' products; statistics and what is chosen by them stay in float32 and float64
	ToolVersion string                         // recorded in the manifest; part of what makes a job the same
}

// check fills in the defaults. Errors are fault.Usage.
func (o *Options) check() error {
	if o.Bits == 0 {
		o.Bits = DefaultBits
	}
	if o.GroupRows == 0 {
		o.GroupRows = palettize.DefaultGroupRows
	}
	if o.Progress == nil {
		o.Progress = progress.Silent
	}
	if o.ToolVersion == "" {
		o.ToolVersion = "unknown"
	}
	if o.Bits < 1 || o.Bits > 8 {
		return fault.Usagef("bits is %d; it may be 1 to 8", o.Bits)
	}
	if o.GroupRows < 1 || o.GroupRows > maxGroupRows {
		return fault.Usagef("group rows is %d; it may be 1 to %d", o.GroupRows, maxGroupRows)
	}
	if err := o.checkPlan(); err != nil {
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
		return fault.Usagef("compensation %q is unknown; there are %s and %s", o.Compensate, artifact.GPTQ, artifact.NoCompensation)
	case o.Compensate == artifact.GPTQ && len(o.Calibration.Files) == 0:
		return fault.Usagef("compensation %q needs calibration text", artifact.GPTQ)
	}
	for _, ov := range o.Overrides {
		if err := ov.Check(); err != nil {
			return err
		}
	}
	return nil
}

// checkPlan checks what decides the bits, and takes over how a plan stores matrices.
func (o *Options) checkPlan() error {
	switch {
	case o.Plan != nil && o.Request != nil:
		return fault.Usagef("a plan and a target exclude each other")
	case o.Plan != nil && len(o.Overrides) > 0:
		return fault.Usagef("a plan and overrides exclude each other: give the overrides when the plan is made, or edit it")
	case o.Plan != nil:
		o.GroupRows, o.RowScale = o.Plan.GroupRows, o.Plan.RowScale
	case o.Request != nil:
		r := *o.Request
		if r.Overrides = o.Overrides; len(r.Bits) == 0 {
			r.Bits = sensitivity.DefaultBits()
		}
		r.Seed = o.Calibration.Seed
		o.Request = &r
		s := o.scoring()
		return s.Check()
	}
	return nil
}

// scoring says how the modules are scored for a request.
func (o *Options) scoring() sensitivity.Options {
	return sensitivity.Options{
		Model: o.Model, Method: o.Method, Bits: o.Request.Bits, GroupRows: o.GroupRows, NoRowScale: !o.RowScale,
		Calibration: o.Calibration, Progress: o.Progress, ToolVersion: o.ToolVersion, Compute: o.Compute,
	}
}

func (o *Options) storage() sensitivity.Storage {
	return sensitivity.Storage{GroupRows: o.GroupRows, RowScale: o.RowScale}
}

// maxGroupRows is far above the rows of any matrix of a supported model.
const maxGroupRows = 1 << 20

package quantize

import (
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/palettize"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
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

	// Form is how projections are stored that are no palettes, such as "q4_k" or "affine4_g64"; of
	// the other matrices see sensitivity.FormWidths. Bits, GroupRows and NoRowScale do not apply;
	// Plan and Request are refused.
	Form artifact.Form
	// ExportTarget is the name of a target of package target, such as "coreai-ios". An artifact that
	// it cannot run is an error before any work. Empty for none, or for that of Plan.
	ExportTarget string

	GroupRows  int  // rows that share a look-up table; 0 for palettize.DefaultGroupRows; a plan's own with Plan
	NoRowScale bool // omit the fp16 scale of each palettized row (16 bits a row); a plan's own with Plan

	Calibration sensitivity.CalibrationOptions // calibration text; no files: none
	// Compensate is artifact.LossNorm, artifact.GPTQ or artifact.NoCompensation; empty for LossNorm if
	// there is calibration text. LossNorm also runs the text backward through the original model, for
	// the gradients at the outputs of its modules.
	Compensate string
	Compute    compute.Arithmetic // of the models' matrix products; statistics are always float32 and float64

	// Stats is a directory of statistics that sensitivity.CollectStats wrote, for error compensation and
	// for the scores of a Request, in place of Calibration. The inputs of modules are then those of the
	// unquantized model, and modules do not depend on one another.
	Stats string

	// Memory is the number of bytes that Run may use; 0 for 70 % of the machine's memory. Hidden states
	// of the text that do not fit are kept in files. The artifact does not depend on it.
	Memory int64

	Restart     bool              // discard the state of an interrupted run
	Pool        *compute.Pool     // nil for Threads workers of its own
	Threads     int               // where Pool is nil; 0 for all cores
	Progress    progress.Reporter // nil for progress.Silent
	ToolVersion string            // recorded in the manifest; a run resumes only at the same version; empty for "unknown"
}

// check fills in the defaults. Errors are fault.Usage.
func (o *Options) check() error {
	if o.Form != "" {
		if err := o.checkForm(); err != nil {
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
	case o.Stats != "" && len(o.Calibration.Files) > 0:
		return fault.Usagef("statistics and calibration text exclude each other: the statistics are of a text")
	case o.Compensate == "" && (o.Stats != "" || len(o.Calibration.Files) > 0):
		o.Compensate = artifact.LossNorm
	case o.Compensate == "":
		o.Compensate = artifact.NoCompensation
	case !slices.Contains([]string{artifact.LossNorm, artifact.GPTQ, artifact.NoCompensation}, o.Compensate):
		return fault.Usagef("compensation %q is unknown; the methods are %s, %s and %s", o.Compensate, artifact.LossNorm, artifact.GPTQ, artifact.NoCompensation)
	case o.compensates() && len(o.Calibration.Files) == 0 && o.Stats == "":
		return fault.Usagef("compensation %q needs calibration text", o.Compensate).
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

// checkForm checks what applies to grids that are no palettes.
func (o *Options) checkForm() error {
	g, ok := o.Form.Grid(safetensors.F16)
	switch {
	case !ok:
		return fault.Usagef("%q is not a form of a grid such as q4_k, affine4_g64 or symmetric4_g128", o.Form)
	case o.Plan != nil || o.Request != nil:
		return fault.Usagef("a form for all projections, and a plan or a target that chooses one, exclude each other")
	case o.Bits != 0 || o.GroupRows != 0 || o.NoRowScale:
		return fault.Usagef("bits, group rows and row scales belong to palettes; %s has its own", o.Form)
	}
	o.Bits, o.NoRowScale = g.CodeBits(), true
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
		o.GroupRows, o.NoRowScale = o.Plan.GroupRows, !o.Plan.RowScale || o.Plan.Formed()
	case o.Request != nil:
		r := *o.Request
		if r.Overrides = o.Overrides; len(r.Bits) == 0 && len(r.Forms) == 0 && o.Stats == "" { // with statistics, those that they score
			r.Bits = sensitivity.DefaultBits()
		}
		if len(r.Forms) > 0 {
			o.NoRowScale = true // rows of palettes have scales
			r.Forms = slices.Clone(r.Forms)
			slices.Sort(r.Forms) // their order does not matter
		}
		r.Seed, r.ExportTarget = o.Calibration.Seed, o.ExportTarget
		o.Request = &r
		if o.Stats != "" {
			return nil // they have scores
		}
		s := o.scoring()
		return s.Check()
	}
	return nil
}

// compensates reports whether errors are compensated.
func (o *Options) compensates() bool { return o.Compensate != artifact.NoCompensation }

// walks reports whether the text runs through the model while it is quantized.
func (o *Options) walks() bool { return o.compensates() && o.Stats == "" }

// backward reports whether the text runs backward through the original model before that.
func (o *Options) backward() bool { return o.walks() && o.Compensate == artifact.LossNorm }

// scoresOutputs reports whether that run scores the modules for a request.
func (o *Options) scoresOutputs() bool {
	return o.backward() && o.Request != nil && o.Method == sensitivity.Fisher
}

// scoring returns the options by which the modules are scored for a request.
func (o *Options) scoring() sensitivity.Options {
	s := sensitivity.Options{
		Model: o.Model, Method: o.Method, GroupRows: o.GroupRows, NoRowScale: o.NoRowScale,
		Calibration: o.Calibration, Progress: o.Progress, ToolVersion: o.ToolVersion, Compute: o.Compute, Memory: o.Memory,
	}
	if o.Request != nil {
		s.Bits, s.Forms, s.Ends = o.Request.Bits, o.Request.Forms, o.Request.Target.Of == sensitivity.OfModel
	}
	return s
}

// choice records what chooses the widths.
func (o *Options) choice() *artifact.ChoiceRecord {
	c := &artifact.ChoiceRecord{By: artifact.ByBits, Overrides: sensitivity.OverrideTexts(o.Overrides)}
	if o.Form != "" {
		c.Forms = []artifact.Form{o.Form}
	}
	switch r := o.Request; {
	case o.Plan != nil:
		c.By = artifact.ByPlan
	case r != nil:
		c.By, c.Method, c.BPW, c.MaxBytes, c.Of, c.Widths, c.Forms = artifact.ByTarget, string(o.Method), r.Target.BPW, r.Target.MaxBytes, string(r.Target.Of), r.Bits, r.Forms
		for _, t := range r.Ties {
			c.Tie = append(c.Tie, string(t))
		}
	}
	return c
}

// family returns the family of the grids of an artifact with these widths, or the one that was asked
// for where all matrices are kept; empty for palettes.
func (o *Options) family(widths map[string]sensitivity.Width) string {
	forms := []artifact.Form{o.Form}
	if o.Request != nil {
		forms = append(forms, o.Request.Forms...)
	}
	if o.Plan != nil {
		forms = append(forms, o.Plan.Forms...)
	}
	for _, w := range widths {
		forms = append(forms, w.Form)
	}
	for _, f := range forms {
		if g, ok := f.Grid(safetensors.F16); ok {
			return grid.Family(g)
		}
	}
	return ""
}

// storage returns the stored form of palettes.
func (o *Options) storage() sensitivity.Storage {
	return sensitivity.Storage{GroupRows: o.GroupRows, RowScale: !o.NoRowScale}
}

// maxGroupRows exceeds the rows of any matrix of a supported model.
const maxGroupRows = 1 << 20

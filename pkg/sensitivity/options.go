package sensitivity

import (
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/palettize"
	"afmq/pkg/progress"
)

// DefaultBits returns the widths to choose from, 2, 3 and 4 bits. Apple chose from 2 and 4; with 3, a model
// of 11 M parameters diverges a quarter to a third less at the same size (docs/bits.md).
func DefaultBits() []int { return []int{2, 3, 4} }

// Options of [Score]. The zero value of every field but Model is valid; methods other than
// [Weight] also need text.
type Options struct {
	Model       string             // directory of the 16-bit checkpoint
	Out         string             // file to write; must not exist. Empty: the scores are only returned
	Restart     bool               // discard the state of an interrupted run for Out
	Method      Method             // empty for DefaultMethod
	Bits        []int              // widths of palettes to score, 1 to 8; empty for DefaultBits
	Forms       []artifact.Form    // forms on another grid to score instead, all of one family
	Ends        bool               // score embedding and head, too, for budgets of the whole model; with Bits only
	GroupRows   int                // output rows that share a look-up table; 0 for palettize.DefaultGroupRows
	NoRowScale  bool               // omit the fp16 scale of each palettized row
	Calibration CalibrationOptions // text; Files may be empty for Weight without Validate
	Samples     int                // draws of the label of each token, Fisher only; 0 for 1
	Validate    int                // number of modules whose divergence is measured in addition
	Compute     compute.Arithmetic // of the model's matrix products; KL refuses compute.BF16
	Pool        *compute.Pool      // nil for Threads workers of its own
	Threads     int                // where Pool is nil; 0 for all cores
	Progress    progress.Reporter  // nil for none
	ToolVersion string             // recorded in the scores; empty for "unknown"

	// Memory is the number of bytes that Score may use; 0 for 70 % of the machine's memory. Hidden
	// states of the text that do not fit are kept in files. The scores do not depend on it.
	Memory int64

	// ExportTarget is the name of a target of package target. Widths and groups that it does not
	// have are an error before any work. Empty for none.
	ExportTarget string

	// For a caller that has these already. With a Journal, Out must be empty.
	Source  *artifact.Source // the checkpoint of Model; nil: Score opens it
	Text    *Calibration     // the text; nil: Score reads Calibration
	Journal Journal          // where finished units of work are kept; nil: in the state of Out
	State   string           // path of the directory with Journal, for messages
	Digest  string           // artifact.DigestCheckpoint of the checkpoint; empty: Score hashes it
	Scratch string           // directory for hidden states; empty: the state of Out, or the system's for temporary files
}

// Check fills in the defaults. Errors are fault.Usage, and fault.Infeasible for widths that the
// export target does not have.
func (o *Options) Check() error {
	if o.Method == "" {
		o.Method = DefaultMethod
	}
	if err := o.checkForms(); err != nil {
		return err
	}
	if o.GroupRows == 0 {
		o.GroupRows = palettize.DefaultGroupRows
	}
	if o.Samples == 0 {
		o.Samples = 1
	}
	o.Progress = progress.Begin(o.Progress, o.Stages()...)
	if o.ToolVersion == "" {
		o.ToolVersion = "unknown"
	}
	if _, err := ParseMethod(string(o.Method)); err != nil {
		return err
	}
	exports, err := exportTarget(o.ExportTarget)
	if err != nil {
		return err
	}
	if exports != nil {
		if err := exports.CheckWidths(o.Bits); err != nil {
			return err
		}
	}
	switch {
	case o.Samples < 1 || o.Samples > 1<<16:
		return fault.Usagef("samples is %d; it must be 1 to 65536", o.Samples)
	case o.GroupRows < 1 || o.GroupRows > maxGroupRows:
		return fault.Usagef("group rows is %d; it must be 1 to %d", o.GroupRows, maxGroupRows)
	case o.Memory < 0:
		return fault.Usagef("memory of %d bytes; it must not be negative", o.Memory)
	case o.Validate < 0:
		return fault.Usagef("validate is %d; it must not be negative", o.Validate)
	case o.Out != "" && o.Journal != nil:
		return fault.Usagef("an output file and a journal exclude each other")
	case o.Method.NeedsText() && !o.hasText():
		return fault.Usagef("method %s needs calibration text", o.Method).
			WithHint("give --calib FILE or --calib builtin, or --method weight")
	case o.Validate > 0 && !o.hasText():
		return fault.Usagef("validation needs calibration text").WithHint("give --calib FILE or --calib builtin")
	case o.Method == KL && o.Compute == compute.BF16:
		return fault.Usagef("method kl cannot measure with bf16 products: at 6 and 8 bits their rounding changes the output more than the palettes do").
			WithHint("use --compute f32, i16 or split, or --method fisher")
	}
	return nil
}

// checkForms sorts the widths or the forms, and sets the default.
func (o *Options) checkForms() (err error) {
	switch {
	case len(o.Forms) == 0:
		if len(o.Bits) == 0 {
			o.Bits = DefaultBits()
		}
		o.Bits = slices.Clone(o.Bits)
		slices.Sort(o.Bits)
		o.Bits = slices.Compact(o.Bits)
		if err := checkBits(o.Bits); err != nil {
			return fault.Usagef("%v", err)
		}
	case o.Ends:
		return refuseEnds(o.Forms[0])
	case len(o.Bits) > 0:
		return fault.Usagef("widths of palettes and forms of another grid exclude each other")
	case o.ExportTarget != "":
		return fault.Usagef("target %s runs palettes, not %s", o.ExportTarget, o.Forms[0])
	default:
		o.Forms, err = sortForms(o.Forms)
		o.NoRowScale = true // rows of palettes have scales
	}
	return err
}

func (o *Options) hasText() bool { return o.Text != nil || len(o.Calibration.Files) > 0 }

func (o *Options) needsText() bool { return o.Method.NeedsText() || o.Validate > 0 }

package target

import (
	"fmt"
	"slices"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
)

// Violation is a rule of a target that a model breaks.
type Violation struct {
	Module  string // that breaks it; empty for the model as a whole
	Problem string // a clause whose subject is the module or the model
	Hint    string // what a user can do
}

// What a program of fixed shape needs: it numbers positions with 16 bits, processes tokens in
// multiples of 8, and stores 8 channels together.
const (
	multiple    = 8
	mostContext = 1 << 16
)

// Forms returns the stored form of a matrix of the model, and the bits of its indices if it is a
// palette.
type Forms func(spec model.TensorSpec) (form artifact.Form, bits int)

// Violations returns every rule that a model breaks, in the order of its modules:
//
//   - its family is one that is not exported;
//   - a palette has indices of a width that the runtime does not have;
//   - the rows of a palette are not a multiple of groupRows, the rows that share a table.
//     A palette with a single table has no such rule;
//   - a matrix is on a grid that is no palette;
//   - the channels of its keys or the tokens of its vocabulary are not a multiple of 8, on
//     coreai-ios.
//
// Matrices of int8 rows or at 16 bits break none: they become int8 and fp16 constants.
func (t *Target) Violations(cfg *model.Config, groupRows int, forms Forms) []Violation {
	var out []Violation
	if !slices.Contains(t.families, cfg.ModelType) {
		out = append(out, Violation{
			Problem: fmt.Sprintf("models of the family %s are not exported to %s; %s are", cfg.ModelType, t.Runtime, strings.Join(t.families, ", ")),
			Hint:    "choose another target",
		})
	}
	if t.static {
		out = append(out, shapeViolations(cfg)...)
	}
	rows := 0 // the greatest common divisor of those of all palettes
	for _, spec := range cfg.Tensors() {
		if len(spec.Shape) != 2 {
			continue
		}
		form, bits := forms(spec)
		if form.OnGrid() {
			out = append(out, Violation{
				spec.Module(), fmt.Sprintf("is stored as %s, which %s does not have", form, t.Runtime),
				"quantize the checkpoint to palettes: afmq quantize without --grid",
			})
		}
		if form != artifact.Palette {
			continue
		}
		rows = gcd(rows, spec.Shape[0])
		if !slices.Contains(t.Widths, bits) {
			out = append(out, Violation{
				spec.Module(), fmt.Sprintf("has %d-bit indices; %s", bits, t.palettes()),
				fmt.Sprintf("choose one of these widths with --bits, or for this module with --override '^%s$=4'", spec.Module()),
			})
		}
		if n := spec.Shape[0]; n > groupRows && n%groupRows != 0 {
			out = append(out, Violation{Module: spec.Module(), Problem: fmt.Sprintf("has %d rows, not a multiple of %d, the rows that share a table; %s needs a multiple", n, groupRows, t.Runtime)})
		}
	}
	for i := range out {
		if out[i].Hint == "" {
			out[i].Hint = fmt.Sprintf("choose a --group-rows that divides the rows of every matrix, such as %d", divisor(rows, groupRows))
		}
	}
	return out
}

// shapeViolations returns the rules of a program of fixed shape that a model breaks.
func shapeViolations(cfg *model.Config) (out []Violation) {
	for _, d := range []struct {
		n    int
		what string
	}{{cfg.KVHeads * cfg.HeadDim, "channels of a key"}, {cfg.VocabSize, "tokens of the vocabulary"}} {
		if d.n%multiple != 0 {
			out = append(out, Violation{
				Problem: fmt.Sprintf("the %d %s are not a multiple of %d; a program of fixed shape needs that", d.n, d.what, multiple),
				Hint:    "choose another target",
			})
		}
	}
	return out
}

// divisor returns the largest divisor of n that is at most most.
func divisor(n, most int) int {
	for most > 1 && n%most != 0 {
		most--
	}
	return most
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Check returns an error of kind fault.Infeasible if the model breaks a rule; it has the first
// violation and the number of the others. file is what the error is about: an artifact, a plan, or
// nothing.
func (t *Target) Check(file string, cfg *model.Config, groupRows int, forms Forms) error {
	found := t.Violations(cfg, groupRows, forms)
	if len(found) == 0 {
		return nil
	}
	first := found[0]
	subject, more := "", ""
	if first.Module != "" {
		subject = first.Module + " "
	}
	if n := len(found) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more violations)", n)
	}
	return &fault.Error{
		Kind: fault.Infeasible, File: file, Hint: first.Hint,
		Msg: fmt.Sprintf("target %s: %s%s%s", t.Name, subject, first.Problem, more),
	}
}

// CheckWidths returns an error of kind fault.Infeasible if the runtime lacks palettes of one of
// the widths.
func (t *Target) CheckWidths(bits []int) error {
	for _, b := range bits {
		if !slices.Contains(t.Widths, b) {
			return fault.Infeasiblef("target %s: there are no palettes of %d bits; %s", t.Name, b, t.palettes()).
				WithHint("choose --bits from these widths")
		}
	}
	return nil
}

// CheckArtifact is CheckContext and Check of an artifact as it is stored.
func (t *Target) CheckArtifact(a *artifact.Reader, context int) error {
	// A family that is not exported is refused as such, whatever the context is.
	if slices.Contains(t.families, a.Config.ModelType) {
		if err := t.CheckContext(a.Dir, a.Config, context); err != nil {
			return err
		}
	}
	stored := map[string]*artifact.StoredTensor{}
	for i := range a.Layout {
		stored[a.Layout[i].Spec.Name] = &a.Layout[i]
	}
	return t.Check(a.Dir, a.Config, a.Manifest.Plan.GroupRows, func(spec model.TensorSpec) (artifact.Form, int) {
		return stored[spec.Name].Form, stored[spec.Name].Bits
	})
}

// CheckContext checks the number of positions of the caches. More than the model's are an error of
// kind fault.Usage, as are more than 65536 and a number that is no multiple of 8 on coreai-ios. The
// programs have fixed rotary frequencies; a model whose frequencies change within the context is an
// error of kind fault.Infeasible about file.
func (t *Target) CheckContext(file string, cfg *model.Config, context int) error {
	if context > cfg.MaxPositions {
		return fault.Usagef("a context of %d is longer than the model's %d positions (max_position_embeddings)", context, cfg.MaxPositions)
	}
	if t.static && (context < multiple || context > mostContext || context%multiple != 0) {
		return fault.Usagef("target %s needs a context of %d to %d positions, a multiple of %d; it is %d", t.Name, multiple, mostContext, multiple, context)
	}
	if r := cfg.Rope; r.Regime(1) != r.Regime(context) {
		return &fault.Error{
			Kind: fault.Infeasible, File: file,
			Msg:  fmt.Sprintf("target %s: the %s rotary embedding changes with the length of the text; a %s program has fixed tables", t.Name, r.Type, t.Runtime),
			Hint: fmt.Sprintf("choose a context of at most %d, the length up to which it is constant", r.OriginalPositions),
		}
	}
	return nil
}

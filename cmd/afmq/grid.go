package main

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/grid"
	"afmq/pkg/palettize"
)

// gridFlags are the flags that say on which grid weights are stored, and the ways to choose from.
type gridFlags struct {
	grid      string
	types     string
	bits      string
	group     int
	zeroPoint bool
	groupRows int
	rowScale  bool
}

// register adds the flags. bits is the help of --bits.
func (o *gridFlags) register(f *pflag.FlagSet, bits string) {
	f.StringVar(&o.grid, "grid", grid.FamilyPalette, "`GRID` of the weights: palette, gguf (blocks of llama.cpp), affine (MLX) or symmetric (compressed-tensors)")
	f.StringVar(&o.types, "types", "", "--grid gguf: `TYPES` of the projections: "+strings.Join(blockTypes(), ", ")+" (default q4_k); with a budget those to choose from (default "+defaultTypes+")")
	f.StringVar(&o.bits, "bits", "", bits)
	f.IntVar(&o.group, "group", 0, "--grid affine, symmetric: `N` columns that share a scale, 32, 64 or 128 (default 64 for affine, 128 for symmetric); 0 for a whole row of symmetric")
	f.BoolVar(&o.zeroPoint, "zero-point", false, "--grid symmetric: store a zero point with each scale")
	f.IntVar(&o.groupRows, "group-rows", palettize.DefaultGroupRows, "--grid palette: `N` output rows that share a look-up table")
	f.BoolVar(&o.rowScale, "row-scale", true, "--grid palette: store an fp16 scale for every row (16 bits a row)")
}

// gridOnly are the flags that belong to some grids only.
var gridOnly = map[string][]string{
	"types":      {grid.FamilyGGUF},
	"bits":       {grid.FamilyPalette, grid.FamilyAffine, grid.FamilySymmetric},
	"group":      {grid.FamilyAffine, grid.FamilySymmetric},
	"zero-point": {grid.FamilySymmetric},
	"group-rows": {grid.FamilyPalette},
	"row-scale":  {grid.FamilyPalette},
}

// gridNames are the flags of gridFlags.
var gridNames = []string{"grid", "types", "bits", "group", "zero-point", "group-rows", "row-scale"}

// Candidates for a budget that names none.
const (
	defaultTypes   = "q2_k,q3_k,q4_k,q5_k,q6_k"
	affineBits     = "2,3,4,5,6"
	symmetricBits  = "4,8"
	affineGroup    = 64
	symmetricGroup = 128
)

// choose returns the widths of palettes, or the forms of another grid. several says that there may
// be more than one, to choose from; else the result has one form or, for palettes, at most one
// width.
func (o *gridFlags) choose(f *pflag.FlagSet, several bool) (bits []int, forms []artifact.Form, err error) {
	if !slices.Contains(grid.Families(), o.grid) {
		return nil, nil, fault.Usagef("--grid %q: expected %s", o.grid, strings.Join(grid.Families(), ", "))
	}
	for _, flag := range gridNames {
		if own := gridOnly[flag]; f.Changed(flag) && len(own) > 0 && !slices.Contains(own, o.grid) {
			return nil, nil, fault.Usagef("--%s belongs to --grid %s", flag, strings.Join(own, " or "))
		}
	}
	switch o.grid {
	case grid.FamilyPalette:
		if o.groupRows < 1 { // 0 is the default of the library, but not of the flag
			return nil, nil, fault.Usagef("--group-rows %d is not positive", o.groupRows)
		}
		if f.Changed("bits") {
			bits, err = parseBits(o.bits)
		}
	case grid.FamilyGGUF:
		forms, err = o.blockForms(several)
	default:
		forms, err = o.groupForms(f, several)
	}
	if err == nil && !several && len(bits)+len(forms) > 1 {
		flag, value := "bits", o.bits
		if o.grid == grid.FamilyGGUF {
			flag, value = "types", o.types
		}
		err = fault.Usagef("--%s %s: more than one to choose from needs a budget: --bpw or --max-bytes", flag, value)
	}
	return bits, forms, err
}

// blockForms returns the forms of --types.
func (o *gridFlags) blockForms(several bool) (forms []artifact.Form, err error) {
	types := o.types
	switch {
	case types == "" && several:
		types = defaultTypes
	case types == "":
		types = "q4_k"
	}
	for name := range strings.SplitSeq(types, ",") {
		t, ok := ggml.ParseType(strings.ToUpper(strings.TrimSpace(name)))
		if !ok || !t.HasCodes() {
			return nil, fault.Usagef("--types %q: %q is not a type of blocks such as q4_k", types, strings.TrimSpace(name)).
				WithHint("the types are %s", strings.Join(blockTypes(), ", "))
		}
		forms = append(forms, artifact.GridForm(grid.Block{Type: t}))
	}
	return forms, nil
}

// groupForms returns the forms of --bits, --group and --zero-point.
func (o *gridFlags) groupForms(f *pflag.FlagSet, several bool) (forms []artifact.Form, err error) {
	affine := o.grid == grid.FamilyAffine
	text, group := o.bits, o.group
	switch {
	case text != "":
	case !several:
		text = "4"
	case affine:
		text = affineBits
	default:
		text = symmetricBits
	}
	if !f.Changed("group") {
		group = symmetricGroup
		if affine {
			group = affineGroup
		}
	}
	bits, err := parseBits(text)
	if err != nil {
		return nil, err
	}
	for _, b := range bits {
		var g grid.Grid = grid.Integer{Bits: b, Group: group, ZeroPoint: o.zeroPoint}
		if affine {
			g = grid.Affine{Bits: b, Group: group}
		}
		form := artifact.GridForm(g)
		if !form.OnGrid() {
			return nil, fault.Usagef("--grid %s has no codes of %d bits in groups of %d columns", o.grid, b, group).
				WithHint("affine has 2 to 6 and 8 bits, symmetric 2 to 8; groups have 32, 64 or 128 columns, or 0 for whole rows of symmetric")
		}
		forms = append(forms, form)
	}
	return forms, nil
}

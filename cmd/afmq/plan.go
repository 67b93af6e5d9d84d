package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
	"afmq/pkg/sensitivity"
)

// budgetFlags are the flags of every command that makes a plan.
type budgetFlags struct {
	bpw       float64
	of        string
	maxBytes  string
	tie       string
	overrides []string
}

func (t *budgetFlags) register(f *pflag.FlagSet) {
	f.Float64Var(&t.bpw, "bpw", 0, "upper bound of the average `BITS` per weight of the projections, such as 3.5, or with --bpw-of model of all parameters")
	f.StringVar(&t.of, "bpw-of", "projections", "`WHAT` a budget chooses the bits of, and --bpw is of: projections, or model, embedding and head included")
	f.StringVar(&t.maxBytes, "max-bytes", "", "upper bound of the `SIZE` of model.safetensors, such as 400MB or 1.5GiB; quantize --grid gguf: of the GGUF file")
	f.StringVar(&t.tie, "tie", "", "`MODULES` of a layer that must have equal bits: qkv, gate_up or qkv,gate_up")
	f.StringArrayVar(&t.overrides, "override", nil, "fix the bits of the modules whose name matches `REGEX=BITS`; 16 keeps them unquantized; repeatable, the last match decides")
}

// given reports whether a budget was given.
func (t *budgetFlags) given(f *pflag.FlagSet) bool {
	return f.Changed("bpw") || f.Changed("max-bytes")
}

// options returns the options of a plan. Without a budget it has the default one.
func (t *budgetFlags) options(f *pflag.FlagSet) (o sensitivity.PlanOptions, err error) {
	switch {
	case f.Changed("bpw") && f.Changed("max-bytes"):
		return o, fault.Usagef("--bpw and --max-bytes exclude each other")
	case f.Changed("bpw") && !(t.bpw > 0 && t.bpw <= 64):
		return o, fault.Usagef("--bpw %v must be above 0 and at most 64", t.bpw)
	case f.Changed("bpw"):
		o.Target.BPW = t.bpw
	case f.Changed("max-bytes"):
		if o.Target.MaxBytes, err = parseSize("max-bytes", t.maxBytes); err != nil {
			return o, err
		}
	}
	if o.Target.Of, err = sensitivity.ParseScope(t.of); err != nil {
		return o, fault.Usagef("--bpw-of %q: expected projections or model", t.of)
	}
	if o.Ties, err = sensitivity.ParseTies(t.tie); err != nil {
		return o, err
	}
	o.Overrides, err = parseOverrides(t.overrides)
	return o, err
}

func parseOverrides(list []string) ([]sensitivity.Override, error) {
	var out []sensitivity.Override
	for _, s := range list {
		o, err := sensitivity.ParseOverride(s)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

type planOptions struct {
	out    string
	bits   string
	budget budgetFlags
	target targetFlag
	device deviceFlags
	seed   int64
}

type planObject struct {
	Out string `json:"out,omitempty"` // absent from the file itself
	*sensitivity.Plan
	// Guide is the estimates of the plan and its neighbours on devices; only with --device.
	Guide *device.Guide `json:"guide,omitempty"`
}

func newPlanCommand(a *app) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan scores.json --out plan.json [--bpw N | --max-bytes N]",
		Short: "Choose the bits of every module under a size limit",
		Long: `Chooses the bits of every module so that the sum of their scores, from
` + "`afmq sensitivity`" + `, is minimal under a size limit. --bpw limits the bits per weight of
the projections (default 3.5), --max-bytes the size of model.safetensors, header included.
The limit is never exceeded.

With --bpw-of model, the embedding and an untied head take part, too: as palettes of the same
widths and of 4 to 6 bits, or as rows of 8 bits, which they have otherwise. --bpw is then the
bits of all stored tensors over all parameters. The scores must have them: afmq sensitivity
--embedding.

The command proves that the plan is optimal, or, if the search is too large, prints a lower
bound of the optimum. It also prints the scores of simpler allocations under the same limit.

The plan is JSON and may be edited: change the "bits" of a layer, with its "form" if it has
one, and change or remove "target", the budget, if the plan exceeds it. ` + "`afmq quantize --plan`" + ` validates the plan.

--target checks the plan against the rules of a runtime: the widths that it has, the rows of a
group and, with --ctx, the length of the context. Without --bits, scored widths that it does
not have are left out. The plan records the target and keeps its rules after an edit.

--device estimates memory, time to first token and tokens per second of the plan on a
device, and of the optimal plans with a quarter and half a bit per weight of the projections
more and less.
With --target, the device must have the runtime, and a plan must fit its memory.
` + "`afmq devices`" + ` lists the device profiles.`,
		Example: `  afmq plan scores.json --bpw 3.5 --out plan.json
  afmq plan scores.json --bpw 4 --bpw-of model --out plan.json
  afmq plan scores.json --target coreai-ios --device iphone-15-pro --ctx 2048 --out plan.json
  afmq plan scores.json --max-bytes 1.2GB --tie qkv,gate_up --override 'layers\.0\.=4' --out plan.json`,
		RunE: func(cmd *cobra.Command, args []string) error { return runPlan(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	registerOut(f, &o.out, outFile, "`FILE` to write, which must not exist; - writes the plan to standard output")
	f.StringVar(&o.bits, "bits", "", "`WIDTHS` to choose from, such as 2,3,4 (default: all that were scored)")
	f.Int64Var(&o.seed, "seed", 0, "`SEED` of the random allocations that the plan is compared with")
	o.budget.register(f)
	o.target.register(f)
	o.device.register(f)
	f.Lookup("ctx").Usage = "with --device or --target: " + strings.TrimPrefix(f.Lookup("ctx").Usage, "with --device: ")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func runPlan(cmd *cobra.Command, a *app, scoresPath string, o planOptions) error {
	opts, err := o.budget.options(cmd.Flags())
	if err != nil {
		return err
	}
	exports, err := o.target.open()
	if err != nil {
		return err
	}
	profiles, err := o.device.open(cmd.Flags(), exports)
	if err != nil {
		return err
	}
	opts.Seed, opts.ExportTarget = o.seed, o.target.name
	if o.bits != "" {
		if opts.Bits, err = parseBits(o.bits); err != nil {
			return err
		}
	}
	s, err := sensitivity.ReadScores(scoresPath)
	if err != nil {
		return err
	}
	if err := o.checkContext(exports, s); err != nil {
		return err
	}
	p, err := sensitivity.MakePlan(s, opts)
	if err != nil {
		return err
	}
	if exports != nil && o.bits == "" {
		a.warn(leftOut(exports, s.Bits))
	}
	excess, err := s.Excess(opts)
	if err != nil {
		return err
	}
	if excess != "" {
		a.warn([]string{excess})
	}
	a.warn(p.Notes)
	guide, err := o.device.guide(profiles, p, s, opts)
	if err != nil {
		return err
	}
	if err := checkFits(exports, guide); err != nil {
		return err
	}
	tables := func(w io.Writer) error {
		if err := printPlan(w, p); err != nil || guide == nil {
			return err
		}
		return printGuide(w, guide)
	}
	if o.out == standardOutput {
		data, err := p.Encode()
		if err != nil {
			return err
		}
		return a.printFile(data, tables)
	}
	if err := p.Write(o.out); err != nil {
		return err
	}
	return a.print(planObject{o.out, p, guide}, func(w io.Writer) error {
		if err := tables(w); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\nwrote %s\n", o.out)
		return err
	})
}

// checkContext checks --ctx against the rules of the target.
func (o *planOptions) checkContext(t *target.Target, s *sensitivity.Scores) error {
	if t == nil || o.device.use.Ctx == 0 && len(o.device.names) == 0 {
		return nil
	}
	shape, err := s.Shape()
	if err != nil {
		return err
	}
	use, err := o.device.use.Resolve(shape.Config)
	if err != nil {
		return err
	}
	return t.CheckContext("", shape.Config, use.Ctx)
}

// guide estimates the plan and its neighbours on the devices; it returns nil without
// devices.
func (d *deviceFlags) guide(profiles []*device.Profile, p *sensitivity.Plan, s *sensitivity.Scores, opts sensitivity.PlanOptions) (*device.Guide, error) {
	if len(profiles) == 0 {
		return nil, nil
	}
	shape, err := s.Shape()
	if err != nil {
		return nil, err
	}
	if _, err := d.use.Resolve(shape.Config); err != nil {
		return nil, err
	}
	w, err := device.PlanWork(p, shape)
	if err != nil {
		return nil, err
	}
	center := p.BPW.Projections
	if p.Target.BPW > 0 && p.Target.Of == "" {
		center = p.Target.BPW
	}
	cost := p.Cost
	if p.Target.Of != "" { // the neighbours keep embedding and head, and their costs are without them
		opts.Overrides = device.Repeat(p).Overrides
		for _, l := range p.Layers[len(s.Modules):] {
			cost -= l.Cost
		}
	}
	variants, notes, err := device.Neighbours(device.Variant{Name: planRow, BPW: p.BPW.Projections, Cost: &cost, Work: w}, center, s, opts)
	if err != nil {
		return nil, err
	}
	return device.NewGuide(profiles, shape.Config, d.use, variants, notes)
}

func printPlan(w io.Writer, p *sensitivity.Plan) error {
	return table(w, func(w io.Writer) {
		column := "bits"
		if len(p.Forms) > 0 {
			column = "form"
		}
		fmt.Fprintf(w, "module\t%s\tscore\n", column)
		for _, l := range p.Layers {
			note := ""
			if l.Pinned {
				note = "\tpinned"
			}
			stored := strconv.Itoa(l.Bits)
			if len(p.Forms) > 0 && l.Form != "" {
				stored = string(l.Form)
			}
			fmt.Fprintf(w, "%s\t%s\t%.4g%s\n", l.Name, stored, l.Cost, note)
		}
		proof := "proven optimal"
		if !p.Optimal {
			proof = fmt.Sprintf("not proven optimal: the optimum is at least %.6g", p.LowerBound)
		}
		fmt.Fprintf(w, "\nchoice\tbits/weight\tcost (%s)\n", p.Method)
		fmt.Fprintf(w, "this plan\t%.4f\t%.6g\t%s\n", p.Target.Figure(p.BPW), p.Cost, proof)
		for _, b := range p.Baselines {
			fmt.Fprintf(w, "%s\t%.4f\t%.6g\t%s\n", b.Name, b.BPW, b.Cost, b.Note)
		}
		fmt.Fprintf(w, "\nbudget\t%v\n", *p.Target)
		if p.ExportTarget != "" {
			fmt.Fprintf(w, "target\t%s\n", p.ExportTarget)
		}
		fmt.Fprintf(w, "bits per weight\t%.4f in projections, %.4f in the model\n", p.BPW.Projections, p.BPW.Model)
		file := "model.safetensors"
		if p.Container != nil {
			file = p.Container.Name
		}
		fmt.Fprintf(w, "%s\t%s bytes (%s)\n", file, thousands(p.Bytes), size(p.Bytes))
	})
}

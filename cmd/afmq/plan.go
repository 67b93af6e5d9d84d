package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/fault"
	"afmq/pkg/sensitivity"
)

// targetFlags are the flags of every command that makes a plan.
type targetFlags struct {
	bpw       float64
	maxBytes  string
	tie       string
	overrides []string
}

func (t *targetFlags) register(f *pflag.FlagSet) {
	f.Float64Var(&t.bpw, "bpw", 0, "`BITS` per weight that the projections may take on average, such as 3.5")
	f.StringVar(&t.maxBytes, "max-bytes", "", "`SIZE` that model.safetensors may take, such as 400MB or 1.5GiB")
	f.StringVar(&t.tie, "tie", "", "`MODULES` that need equal bits: qkv, gate_up or qkv,gate_up")
	f.StringArrayVar(&t.overrides, "override", nil, "`REGEX=BITS` for the modules that match, later ones winning; 16 keeps them as they are; repeatable")
}

// given reports whether a target is there.
func (t *targetFlags) given(f *pflag.FlagSet) bool {
	return f.Changed("bpw") || f.Changed("max-bytes")
}

func (t *targetFlags) request(f *pflag.FlagSet) (r sensitivity.Request, err error) {
	switch {
	case f.Changed("bpw") && f.Changed("max-bytes"):
		return r, fault.Usagef("--bpw and --max-bytes exclude each other")
	case f.Changed("bpw") && !(t.bpw > 0 && t.bpw <= 64):
		return r, fault.Usagef("--bpw %v is not a number of bits per weight", t.bpw)
	case f.Changed("bpw"):
		r.Target.BPW = t.bpw
	default:
		if r.Target.MaxBytes, err = parseSize("max-bytes", t.maxBytes); err != nil {
			return r, err
		}
	}
	if r.Ties, err = sensitivity.ParseTies(t.tie); err != nil {
		return r, err
	}
	r.Overrides, err = parseOverrides(t.overrides)
	return r, err
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
	target targetFlags
	device deviceFlags
	seed   int64
}

type planObject struct {
	Out string `json:"out,omitempty"` // the plan's own file does not have it
	*sensitivity.Plan
	// Guide is what devices make of the plan and of those with somewhat more and fewer bits;
	// only with --device.
	Guide *device.Guide `json:"guide,omitempty"`
}

func newPlanCommand(a *app) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan scores.json --out plan.json (--bpw N | --max-bytes N)",
		Short: "Give every module its bits so that the model suffers least",
		Long: `Chooses the bits of every module from the scores of ` + "`afmq sensitivity`" + `: the summed
score is the least that the target allows, proven, and printed next to what simpler
ways to choose would have cost. --bpw bounds the bits per weight of the projections,
--max-bytes the size of model.safetensors with its header; neither is ever passed.

The plan is JSON that you may edit: change the "bits" of a layer, and change or remove
"target" if it no longer fits. ` + "`afmq quantize --plan`" + ` checks it.

With --device it also estimates what the plan, and the optimal plans with half and a
quarter of a bit more and less, take on a device: memory, the time to the first token,
tokens per second. ` + "`afmq devices`" + ` lists those that are known.`,
		Example: `  afmq plan scores.json --bpw 3.5 --out plan.json
  afmq plan scores.json --max-bytes 1.2GB --tie qkv,gate_up --override 'layers\.0\.=4' --out plan.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runPlan(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "`FILE` to write; must not exist")
	f.StringVar(&o.bits, "bits", "", "`WIDTHS` to choose from, such as 2,3,4 (default: all that were scored)")
	f.Int64Var(&o.seed, "seed", 0, "`SEED` of the random plans that the plan is compared with")
	o.target.register(f)
	o.device.register(f)
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func runPlan(cmd *cobra.Command, a *app, scoresPath string, o planOptions) error {
	if !o.target.given(cmd.Flags()) {
		return fault.Usagef("a plan needs a target: --bpw or --max-bytes")
	}
	r, err := o.target.request(cmd.Flags())
	if err != nil {
		return err
	}
	profiles, err := o.device.open(cmd.Flags())
	if err != nil {
		return err
	}
	r.Seed = o.seed
	if o.bits != "" {
		if r.Bits, err = parseBits(o.bits); err != nil {
			return err
		}
	}
	s, shape, err := sensitivity.ReadScores(scoresPath)
	if err != nil {
		return err
	}
	p, err := sensitivity.MakePlan(s, shape, r)
	if err != nil {
		return err
	}
	guide, err := o.device.guide(profiles, p, s, shape, r)
	if err != nil {
		return err
	}
	if err := p.Write(o.out); err != nil {
		return err
	}
	return a.print(planObject{o.out, p, guide}, func(w io.Writer) error {
		if err := printPlan(w, p); err != nil {
			return err
		}
		if guide != nil {
			if err := printGuide(w, guide); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintf(w, "\nwrote %s\n", o.out)
		return err
	})
}

// guide estimates the plan and its neighbours on the devices; nil without any.
func (d *deviceFlags) guide(profiles []*device.Profile, p *sensitivity.Plan, s *sensitivity.Scores, shape *sensitivity.Shape, r sensitivity.Request) (*device.Guide, error) {
	if len(profiles) == 0 {
		return nil, nil
	}
	if _, err := d.use.Resolve(shape.Config); err != nil {
		return nil, err
	}
	w, err := device.PlanWork(p, shape)
	if err != nil {
		return nil, err
	}
	center := p.BPW.Projections
	if p.Target.BPW > 0 {
		center = p.Target.BPW
	}
	variants, notes, err := device.Neighbours(device.Variant{Name: "plan", BPW: p.BPW.Projections, Cost: &p.Cost, Work: w}, center, s, shape, r)
	if err != nil {
		return nil, err
	}
	return device.NewGuide(profiles, shape.Config, d.use, variants, notes)
}

func printPlan(w io.Writer, p *sensitivity.Plan) error {
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "module\tbits\tscore\n")
		for _, l := range p.Layers {
			note := ""
			if l.Pinned {
				note = "\tpinned"
			}
			fmt.Fprintf(w, "%s\t%d\t%.4g%s\n", l.Name, l.Bits, l.Cost, note)
		}
		proof := "proven optimal"
		if !p.Optimal {
			proof = fmt.Sprintf("at most %.3g above the optimum, whose lower bound is %.6g", p.Cost-p.LowerBound, p.LowerBound)
		}
		fmt.Fprintf(w, "\nchoice\tbits per weight\tcost (%s)\n", p.Method)
		fmt.Fprintf(w, "this plan\t%.4f\t%.6g\t%s\n", p.BPW.Projections, p.Cost, proof)
		for _, b := range p.Baselines {
			fmt.Fprintf(w, "%s\t%.4f\t%.6g\t%s\n", b.Name, b.BPW, b.Cost, b.Note)
		}
		fmt.Fprintf(w, "\ntarget\t%v\n", *p.Target)
		fmt.Fprintf(w, "bits per weight\t%.4f in projections, %.4f in the model\n", p.BPW.Projections, p.BPW.Model)
		fmt.Fprintf(w, "model.safetensors\t%s bytes (%s)\n", thousands(p.Bytes), size(p.Bytes))
	})
}

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
)

// targetFlag is the flag of the commands that check the rules of a runtime before long work.
type targetFlag struct{ name string }

func (t *targetFlag) register(f *pflag.FlagSet) {
	f.StringVar(&t.name, "target", "", "check the rules of the runtime `TARGET` first: "+strings.Join(target.Names(), ", "))
}

// open returns the target, nil without one.
func (t *targetFlag) open() (*target.Target, error) {
	if t.name == "" {
		return nil, nil
	}
	return target.Named(t.name)
}

// leftOut returns a warning for each scored width that the target does not have.
func leftOut(t *target.Target, scored []int) []string {
	var out []string
	for _, b := range scored {
		if len(t.Allowed([]int{b})) == 0 {
			out = append(out, fmt.Sprintf("target %s: the scores of %d bits are left out: %s has no such palettes", t.Name, b, t.Runtime))
		}
	}
	return out
}

// planRow is the name of the plan in a guide.
const planRow = "plan"

// checkFits returns an error of kind fault.Infeasible if the plan of a guide does not fit the
// memory of a device.
func checkFits(t *target.Target, g *device.Guide) error {
	if t == nil || g == nil {
		return nil
	}
	for _, d := range g.Devices {
		for _, r := range d.Rows {
			if r.Name != planRow || r.Fits {
				continue
			}
			return fault.Infeasiblef("target %s: the plan needs %s on %s, %s of weights and %s of keys and values for a context of %d; a model may have %s",
				t.Name, size(r.TotalBytes), d.Profile.Name, size(r.WeightBytes), size(r.KVBytes), g.Use.Ctx, size(int64(d.Profile.Memory.Value))).
				WithHint("lower --ctx, or the budget with --bpw or --max-bytes")
		}
	}
	return nil
}

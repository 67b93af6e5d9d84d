package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
)

// deviceFlags are the flags of the commands that estimate memory and speed on devices.
type deviceFlags struct {
	names []string
	use   device.Use
}

func (d *deviceFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&d.names, "device", nil, "estimate memory and speed on this `DEVICE`: a name from afmq devices, or a profile file; repeatable")
	f.IntVar(&d.use.Ctx, "ctx", 0, "with --device: `N` tokens of context (default: 4096, or the model's maximum if less)")
	f.IntVar(&d.use.Prompt, "prompt", 0, "with --device: `N` tokens in the prompt (default: a quarter of the context)")
}

// open reads the profiles. With a target, its devices alone are accepted, and --ctx has a meaning
// without --device.
func (d *deviceFlags) open(f *pflag.FlagSet, t *target.Target) ([]*device.Profile, error) {
	for _, name := range []string{"ctx", "prompt"} {
		if v, _ := f.GetInt(name); f.Changed(name) && v < 1 {
			return nil, fault.Usagef("--%s %d is not a positive number of tokens", name, v)
		}
		if f.Changed(name) && len(d.names) == 0 && (t == nil || name != "ctx") {
			return nil, fault.Usagef("--%s has no meaning without --device", name)
		}
	}
	profiles, err := device.LoadAll(d.names)
	if err != nil || t == nil {
		return profiles, err
	}
	return profiles, device.CheckTarget(profiles, t)
}

type devicesObject struct {
	Schema  string            `json:"schema"`
	Devices []*device.Profile `json:"devices"`
}

func newDevicesCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "devices [NAME]",
		Short: "List the device profiles of plan and report, or print one",
		Long: `Lists the built-in device profiles: memory bandwidth, arithmetic throughput and the memory
available to a model. Each figure has its public source in the profile. With NAME, prints
that profile; edit a copy and pass the file to --device of ` + "`afmq plan`" + ` or ` + "`afmq report`" + `.`,
		Example: `  afmq devices
  afmq devices raspberry-pi-5 > mine.json
  afmq plan scores.json --bpw 3.5 --out plan.json --device mine.json --ctx 2048 --prompt 512`,
		RunE: func(_ *cobra.Command, args []string) error { return runDevices(a, args) },
	}
}

func runDevices(a *app, args []string) error {
	if len(args) == 1 {
		text, err := device.Text(args[0])
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(text)
		return outputError(err)
	}
	all, err := device.LoadAll(device.Names())
	if err != nil {
		return err
	}
	return a.print(devicesObject{"afmq.devices/v1", all}, func(w io.Writer) error {
		return table(w, func(w io.Writer) {
			for _, p := range all {
				fmt.Fprintf(w, "%s\t%s\n", p.Name, p.Title)
				fmt.Fprintf(w, "\t%.3g GB/s, %s for a model\n", p.Bandwidth.Value/1e9, size(int64(p.Memory.Value)))
				fmt.Fprintf(w, "\t%.3g T op/s, %s\n", p.Compute.Value/1e12, p.Arithmetic)
				if names := device.Targets(p); len(names) > 0 {
					fmt.Fprintf(w, "\t%s\n", strings.Join(names, ", "))
				}
			}
		})
	})
}

// printGuide prints a table for each device, with a column for each plan.
func printGuide(w io.Writer, g *device.Guide) error {
	for _, d := range g.Devices {
		err := table(w, func(w io.Writer) {
			fmt.Fprintf(w, "\n%v\n", d.Profile)
			row := func(name string, value func(r device.Row) string) {
				fmt.Fprint(w, name)
				for _, r := range d.Rows {
					fmt.Fprintf(w, "\t%s", value(r))
				}
				fmt.Fprintln(w)
			}
			row("", func(r device.Row) string { return r.Name })
			row("bits per weight", func(r device.Row) string { return fmt.Sprintf("%.4f", r.BPW) })
			if len(d.Rows) > 0 && d.Rows[0].Cost != nil {
				row("cost", func(r device.Row) string { return fmt.Sprintf("%.5g", *r.Cost) })
			}
			row("weights", func(r device.Row) string { return size(r.WeightBytes) })
			row("keys and values", func(r device.Row) string { return size(r.KVBytes) })
			row("fits", func(r device.Row) string { return yesNo(r.Fits) })
			row("first token", func(r device.Row) string { return g.Measured.FirstToken(r.FirstToken) })
			row("tokens/s", func(r device.Row) string { return g.Measured.Rate(r.Decode) })
			row("  at "+thousands(int64(g.Use.Ctx)), func(r device.Row) string { return g.Measured.Rate(r.DecodeFull) })
		})
		if err != nil {
			return err
		}
	}
	return table(w, func(w io.Writer) {
		for _, note := range g.Notes {
			fmt.Fprintln(w, note)
		}
		m := g.Measured
		fmt.Fprintf(w, "\nestimates: first token of a prompt of %s tokens; tokens/s after it, and with the context full. Ranges: %g to %g of the decoding speed and %g to %g times the time that the device's peaks allow, see docs/devices.md\n",
			thousands(int64(g.Use.Prompt)), m.DecodeLow, m.DecodeHigh, m.FirstTokenLow, m.FirstTokenHigh)
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

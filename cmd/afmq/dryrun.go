package main

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"afmq/internal/units"
	"afmq/pkg/estimate"
)

// dryRunFlag makes a command predict what it would take.
type dryRunFlag struct{ on bool }

func (d *dryRunFlag) register(f *pflag.FlagSet) {
	f.BoolVar(&d.on, "dry-run", false, "predict time, memory and disk space from a few seconds of measurements, and write nothing")
}

type dryRunObject struct {
	Schema  string `json:"schema"`
	Command string `json:"command"`
	*estimate.Estimate
}

// print prints an estimate, and returns the error of a job that does not fit.
func (d *dryRunFlag) print(a *app, command, dir, hint string, e *estimate.Estimate) error {
	if err := e.Check(dir, hint); err != nil {
		return err
	}
	object := dryRunObject{"afmq.dry-run/v1", command, e}
	return a.print(object, func(w io.Writer) error {
		return table(w, func(w io.Writer) {
			for _, s := range e.Stages {
				fmt.Fprintf(w, "%s\t%s\n", s.Name, units.Span(s.Seconds))
			}
			fmt.Fprintf(w, "time\tabout %s\n", units.Span(e.Seconds))
			fmt.Fprintf(w, "memory\tabout %s of %s\n", size(e.PeakBytes), size(e.MemoryBytes))
			fmt.Fprintf(w, "result\tabout %s\n", size(e.OutputBytes))
			if e.ScratchBytes > 0 {
				fmt.Fprintf(w, "scratch files\tabout %s\n", size(e.ScratchBytes))
			}
			if e.DiskBytes > 0 {
				fmt.Fprintf(w, "free disk space\t%s\n", size(e.DiskBytes))
			}
		})
	})
}

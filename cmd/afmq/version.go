package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"afmq/pkg/compute"

	"github.com/spf13/cobra"
)

type versionObject struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	Kernels string `json:"kernels"`
	// Computes are the arithmetics of this machine. Auto are those of --compute auto for
	// products of many rows and of one row.
	Computes []string  `json:"computes"`
	Auto     [2]string `json:"auto"`
	Threads  int       `json:"threads"`
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the kernels and the arithmetics",
		RunE:  func(*cobra.Command, []string) error { return a.printVersion() },
	}
}

// printVersion prints what `afmq version` and `afmq --version` print.
func (a *app) printVersion() error {
	v := versionObject{
		Schema: "afmq.version/v1", Version: version, Go: runtime.Version(),
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernels: compute.Level(), Computes: compute.Names(),
		Auto: [2]string{compute.Fastest(false).String(), compute.Fastest(true).String()}, Threads: a.workers().Threads(),
	}
	return a.print(v, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "afmq %s (%s, %s/%s), %s kernels, %d threads\narithmetics: %s; auto is %s, and %s for generated tokens\n",
			v.Version, v.Go, v.OS, v.Arch, v.Kernels, v.Threads, strings.Join(v.Computes, ", "), v.Auto[0], v.Auto[1])
		return err
	})
}

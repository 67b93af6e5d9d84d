package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"afmq/pkg/export/compressed"
	"afmq/pkg/export/mlx"
)

type mlxObject struct {
	Schema   string `json:"schema"`
	Artifact string `json:"artifact"`
	To       string `json:"to"`
	Out      string `json:"out"`
	*mlx.Result
}

type compressedObject struct {
	Schema   string `json:"schema"`
	Artifact string `json:"artifact"`
	To       string `json:"to"`
	Out      string `json:"out"`
	*compressed.Result
}

func (a *app) exportMLX(cmd *cobra.Command, dir string, o *exportFlags) error {
	opts := mlx.Options{
		Artifact: dir, Out: o.out, As: o.as, Context: o.context, Restart: o.restart, AllowUnbound: o.adapters.allowUnbound,
		Pool: a.workers(), Progress: a.progress(), ToolVersion: version,
	}
	list, err := o.adapters.adapters()
	if err != nil {
		return err
	}
	for _, x := range list {
		opts.Adapters = append(opts.Adapters, mlx.Adapter{Name: x.Name, Dir: x.Dir})
	}
	r, err := mlx.Export(cmd.Context(), opts)
	if err != nil {
		return err
	}
	object := mlxObject{"afmq.export-mlx/v1", dir, o.to, o.out, r}
	return a.print(object, func(w io.Writer) error { return printMLX(w, object) })
}

func printMLX(w io.Writer, o mlxObject) error {
	return table(w, func(w io.Writer) {
		printCodes(w, o.As, o.Tensors, o.Quantized, o.Kept, o.Type)
		if o.Bits > 0 {
			fmt.Fprintf(w, "most in\t%d bits, groups of %d\n", o.Bits, o.GroupSize)
		}
		fmt.Fprintf(w, "read back\t%d tensors, equal\n", o.Tensors)
		fmt.Fprintf(w, "size\t%s\n", size(o.Bytes))
		printNotes(w, o.Notes)
		fmt.Fprintf(w, "content hash\t%s\n", o.ContentHash)
		fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", o.Seconds, size(o.PeakRSSBytes))
		for _, x := range o.Adapters {
			fmt.Fprintf(w, "adapter\t%s, rank %d, %s\n", whole(x.Dir), x.Rank, size(x.Bytes))
		}
		fmt.Fprintf(w, "wrote\t%s\n", whole(o.Out))
	})
}

func (a *app) exportCompressed(cmd *cobra.Command, dir string, o *exportFlags) error {
	opts := compressed.Options{
		Artifact: dir, Out: o.out, As: o.as, Restart: o.restart, AllowUnbound: o.adapters.allowUnbound,
		Pool: a.workers(), Progress: a.progress(), ToolVersion: version,
	}
	list, err := o.adapters.adapters()
	if err != nil {
		return err
	}
	for _, x := range list {
		opts.Adapters = append(opts.Adapters, compressed.Adapter{Name: x.Name, Dir: x.Dir})
	}
	r, err := compressed.Export(cmd.Context(), opts)
	if err != nil {
		return err
	}
	object := compressedObject{"afmq.export-compressed-tensors/v1", dir, o.to, o.out, r}
	return a.print(object, func(w io.Writer) error { return printCompressed(w, object) })
}

func printCompressed(w io.Writer, o compressedObject) error {
	return table(w, func(w io.Writer) {
		printCodes(w, o.As, o.Tensors, o.Quantized, o.Kept, o.Type)
		for _, s := range o.Schemes {
			text := fmt.Sprintf("%d matrices of %d bits", s.Modules, s.Bits)
			if s.GroupSize > 0 {
				text += fmt.Sprintf(", groups of %d", s.GroupSize)
			} else {
				text += ", one scale a row"
			}
			if s.ZeroPoint {
				text += ", zero points"
			}
			fmt.Fprintf(w, "scheme\t%s\n", text)
		}
		fmt.Fprintf(w, "read back\t%d tensors, equal\n", o.Tensors)
		fmt.Fprintf(w, "size\t%s\n", size(o.Bytes))
		printNotes(w, o.Notes)
		fmt.Fprintf(w, "content hash\t%s\n", o.ContentHash)
		fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", o.Seconds, size(o.PeakRSSBytes))
		for _, x := range o.Adapters {
			fmt.Fprintf(w, "adapter\t%s, rank %d, %s\n", whole(x.Dir), x.Rank, size(x.Bytes))
		}
		fmt.Fprintf(w, "wrote\t%s\n", whole(o.Out))
	})
}

// printCodes prints how the tensors of a directory are written.
func printCodes(w io.Writer, as string, tensors, quantized, kept int, plain string) {
	if as != "" {
		fmt.Fprintf(w, "weights\t%d tensors dequantized to %s\n", tensors, as)
	} else {
		fmt.Fprintf(w, "weights\t%d matrices in codes, %d kept; all else %s\n", quantized, kept, plain)
	}
}

func printNotes(w io.Writer, notes []string) {
	for _, note := range notes {
		fmt.Fprintf(w, "note\t%s\n", strings.TrimSpace(note))
	}
}

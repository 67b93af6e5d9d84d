package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"afmq/pkg/quantize"
)

type dequantizeObject struct {
	Schema   string  `json:"schema"`
	Artifact string  `json:"artifact"`
	Adapter  string  `json:"adapter,omitempty"`
	Out      string  `json:"out"`
	Bytes    int64   `json:"bytes"`
	Seconds  float64 `json:"seconds"`
}

func newDequantizeCommand(a *app) *cobra.Command {
	var o quantize.DequantizeOptions
	cmd := &cobra.Command{
		Use:   "dequantize ARTIFACT --out DIR",
		Short: "Convert an artifact to an F16 checkpoint",
		Long: `Writes the weights of ARTIFACT as an F16 checkpoint that transformers, PEFT and
evaluation harnesses load. Palettes without row scales hold fp16 values and are reproduced
exactly. Palettes with row scales and the 8-bit embedding are rounded to fp16. --adapter
merges an adapter into the weights before they are rounded.`,
		Example: `  afmq dequantize my-4bit --out my-4bit-f16
  afmq dequantize my-4bit --adapter recovered/rank-16 --out my-merged-f16`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Artifact, o.Pool, o.Progress, o.ToolVersion = args[0], a.workers(), a.progress(), version
			r, err := quantize.Dequantize(cmd.Context(), o)
			if err != nil {
				return err
			}
			object := dequantizeObject{"afmq.dequantize/v1", args[0], o.Adapter, o.Out, r.Bytes, r.Seconds}
			return a.print(object, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "wrote %s: %s in %.1f s\n", o.Out, size(object.Bytes), object.Seconds)
				return err
			})
		},
	}
	registerOut(cmd.Flags(), &o.Out, outDir, "`DIR` to create; must not exist, or be empty")
	cmd.Flags().StringVar(&o.Adapter, "adapter", "", "`DIR` of an adapter to merge")
	cmd.Flags().BoolVar(&o.AllowUnbound, "allow-unbound", false, "accept an adapter that does not name the artifact it was trained on")
	cmd.Flags().BoolVar(&o.Restart, "restart", false, "discard the saved state of an interrupted run")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

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
	var out string
	var o quantize.DequantizeOptions
	cmd := &cobra.Command{
		Use:   "dequantize ARTIFACT --out DIR",
		Short: "Write the F16 checkpoint that an artifact stands for",
		Long: `Writes the weights of ARTIFACT as an ordinary F16 checkpoint that transformers,
PEFT and evaluation harnesses load. Palette values are fp16 already, so they are
exact; the 8-bit embedding is rounded to fp16. With --adapter, the adapter is merged
into the weights.`,
		Example: `  afmq dequantize my-4bit --out my-4bit-f16
  afmq dequantize my-4bit --adapter recovered/rank-16 --out my-merged-f16`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Progress, o.ToolVersion = a.progress(), version
			r, err := quantize.Dequantize(cmd.Context(), a.workers(), args[0], out, o)
			if err != nil {
				return err
			}
			object := dequantizeObject{"afmq.dequantize/v1", args[0], o.Adapter, out, r.Bytes, r.Seconds}
			return a.print(object, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "wrote %s: %s in %.1f s\n", out, size(object.Bytes), object.Seconds)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`DIR` to write; must not exist, or be empty")
	cmd.Flags().StringVar(&o.Adapter, "adapter", "", "`DIR` of an adapter to merge")
	cmd.Flags().BoolVar(&o.AllowUnbound, "allow-unbound", false, "take an adapter that does not say which artifact it was trained on")
	cmd.Flags().BoolVar(&o.Restart, "restart", false, "discard what an interrupted run left")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"afmq/pkg/fault"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
)

type dequantizeObject struct {
	Schema   string  `json:"schema"`
	Artifact string  `json:"artifact"`
	Adapter  string  `json:"adapter,omitempty"`
	DType    string  `json:"dtype"`
	Out      string  `json:"out"`
	Bytes    int64   `json:"bytes"`
	Seconds  float64 `json:"seconds"`
}

func newDequantizeCommand(a *app) *cobra.Command {
	var o quantize.DequantizeOptions
	var dtype string
	cmd := &cobra.Command{
		Use:   "dequantize ARTIFACT --out DIR",
		Short: "Convert an artifact to a checkpoint in F16 or F32",
		Long: `Writes the weights of ARTIFACT as an F16 checkpoint that transformers, PEFT and
evaluation harnesses load. Palettes without row scales hold fp16 values and are reproduced
exactly. Palettes with row scales and the 8-bit embedding are rounded to fp16; --dtype f32
writes all weights exactly, for comparisons. --adapter merges an adapter into the weights
before they are rounded.`,
		Example: `  afmq dequantize my-4bit --out my-4bit-f16
  afmq dequantize my-4bit --adapter recovered/rank-16 --out my-merged-f16`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.DType, err = parseDType(dtype); err != nil {
				return err
			}
			o.Artifact, o.Pool, o.Progress, o.ToolVersion = args[0], a.workers(), a.progress(), version
			r, err := quantize.Dequantize(cmd.Context(), o)
			if err != nil {
				return err
			}
			object := dequantizeObject{"afmq.dequantize/v1", args[0], o.Adapter, dtype, o.Out, r.Bytes, r.Seconds}
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
	cmd.Flags().StringVar(&dtype, "dtype", "f16", "`TYPE` of the weights: f16 or f32")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

// parseDType returns the type of a dequantized checkpoint.
func parseDType(name string) (safetensors.DType, error) {
	switch name {
	case "f16":
		return safetensors.F16, nil
	case "f32":
		return safetensors.F32, nil
	}
	return 0, fault.Usagef("--dtype %q is not f16 or f32", name)
}

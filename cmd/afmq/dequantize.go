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
	Out      string  `json:"out"`
	Bytes    int64   `json:"bytes"`
	Seconds  float64 `json:"seconds"`
}

func newDequantizeCommand(a *app) *cobra.Command {
	var out string
	var restart bool
	cmd := &cobra.Command{
		Use:   "dequantize ARTIFACT --out DIR",
		Short: "Write the F16 checkpoint that an artifact stands for",
		Long: `Writes the weights of ARTIFACT as an ordinary F16 checkpoint that transformers,
PEFT and evaluation harnesses load. Palette values are fp16 already, so they are
exact; the 8-bit embedding is rounded to fp16.`,
		Example: `  afmq dequantize my-4bit --out my-4bit-f16`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := quantize.Dequantize(cmd.Context(), a.workers(), args[0], out,
				quantize.DequantizeOptions{Restart: restart, Progress: a.progress(), ToolVersion: version})
			if err != nil {
				return err
			}
			o := dequantizeObject{"afmq.dequantize/v1", args[0], out, r.Bytes, r.Seconds}
			return a.print(o, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "wrote %s: %s in %.1f s\n", out, size(o.Bytes), o.Seconds)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory to write; must not exist, or be empty")
	cmd.Flags().BoolVar(&restart, "restart", false, "discard what an interrupted run left")
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

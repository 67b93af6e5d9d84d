package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"afmq/pkg/artifact"
	"afmq/pkg/ggufmodel"
)

type inspectObject struct {
	Schema string `json:"schema"`
	Path   string `json:"path"`
	*artifact.Description
}

func newInspectCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect PATH",
		Short: "Show the shape, types and sizes of a model or GGUF file",
		Long: `Prints the shape, types and sizes of the checkpoint or artifact at PATH; for an artifact
also its origin, the size of each part and the bits of each module. Only headers and the
tokenizer are read; ` + "`afmq verify`" + ` checks every byte of an artifact. A tokenizer that this
program cannot use is an error, exit code 3. A model without tokenizer.json is shown, and
"tokenizer none" says that it cannot be quantized or run.

Of a GGUF file, PATH.gguf, the keys, types and sizes of its header are printed.`,
		Example: `  afmq inspect my-4bit
  afmq inspect llama-3.2-1b-Q4_K_M.gguf`,
		RunE: func(_ *cobra.Command, args []string) error {
			if ggufmodel.Is(args[0]) {
				return a.inspectGGUF(args[0])
			}
			d, err := artifact.Describe(args[0])
			if err != nil {
				return err
			}
			o := inspectObject{"afmq.inspect/v1", args[0], d}
			return a.print(o, func(w io.Writer) error { return printDescription(w, d) })
		},
	}
}

func printDescription(w io.Writer, d *artifact.Description) error {
	err := table(w, func(w io.Writer) {
		fmt.Fprintf(w, "kind\t%s\n", d.Kind)
		fmt.Fprintf(w, "model\t%s: %d layers, hidden %d, FFN %d\n", d.ModelType, d.Layers, d.Hidden, d.Intermediate)
		fmt.Fprintf(w, "attention\t%d query heads, %d KV heads of %d\n", d.Heads, d.KVHeads, d.HeadDim)
		tied := "untied"
		if d.TiedHead {
			tied = "tied"
		}
		fmt.Fprintf(w, "vocabulary\t%s, %s embedding\n", thousands(int64(d.Vocab)), tied)
		if n := d.TokenizerIDs; n != nil {
			fmt.Fprintf(w, "tokenizer\t%s ids\n", thousands(int64(*n)))
		} else {
			fmt.Fprintf(w, "tokenizer\tnone: quantize, eval-perplexity and generate need tokenizer.json\n")
		}
		fmt.Fprintf(w, "context\t%s positions, RoPE %s, base %g\n", thousands(int64(d.Positions)), d.RopeType, d.RopeTheta)
		if d.WindowLayers > 0 {
			fmt.Fprintf(w, "sliding window\t%s positions in %d of %d layers\n", thousands(int64(d.Window)), d.WindowLayers, d.Layers)
		}
		fmt.Fprintf(w, "parameters\t%s\n", thousands(d.Parameters))
		fmt.Fprintf(w, "weights\t%s, %.3f bits per parameter\n", size(d.WeightBytes), d.BitsPerParam)
		for _, t := range d.Types {
			fmt.Fprintf(w, "  %s\t%s in %d tensors\n", t.Type, size(t.Bytes), t.Tensors)
		}
	})
	if err != nil || d.Manifest == nil {
		return err
	}
	return printManifest(w, d.Manifest)
}

func printManifest(w io.Writer, m *artifact.Manifest) error {
	err := table(w, func(w io.Writer) {
		fmt.Fprintf(w, "bits per weight\t%.4f in projections, %.4f in the model\n", m.BPW.Projections, m.BPW.Model)
		fmt.Fprintf(w, "content hash\t%s\n", m.ContentHash)
		fmt.Fprintf(w, "made from\t%s\n", m.Source.Digest)
		fmt.Fprintf(w, "made by\tafmq %s (%s)\n", m.ToolVersion, m.Arithmetic)
		for _, t := range m.Tuning {
			fmt.Fprintf(w, "tuned\ton %s tokens: %s\n", thousands(t.Tokens), strings.Join(t.Numbers, ", "))
		}
		fmt.Fprintf(w, "\t\n")
	})
	if err != nil {
		return err
	}
	if err := printLedger(w, m.Ledger); err != nil {
		return err
	}
	err = table(w, func(w io.Writer) {
		fmt.Fprintf(w, "\nmodule\tform\tbits\tsize\trelative error\n")
		for _, p := range m.Plan.Modules {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%.5f\n", p.Name, p.Form, p.Bits, size(p.Bytes), p.RelError)
		}
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(w, `
transformers must not load this directory: it would initialize the weights that
it does not find at random. `+"`afmq dequantize`"+` writes a checkpoint for it.
`)
	return err
}

func printLedger(w io.Writer, l artifact.Ledger) error {
	return table(w, func(w io.Writer) {
		row := func(name string, n int64) {
			fmt.Fprintf(w, "%s\t%s\t%.2f %%\n", name, size(n), 100*float64(n)/float64(l.Total))
		}
		switch {
		case l.Blocks > 0:
			row("blocks", l.Blocks)
		case l.Codes > 0:
			row("codes", l.Codes)
			row("scales", l.Scales)
		default:
			row("indices", l.Indices)
			row("look-up tables", l.LUT)
			if l.RowScale > 0 {
				row("row scales", l.RowScale)
			}
			if l.Embedding > 0 {
				row("embedding (8 bit)", l.Embedding)
			}
		}
		row("other tensors", l.Other)
		row("container", l.Container)
		row("model.safetensors", l.Total)
	})
}

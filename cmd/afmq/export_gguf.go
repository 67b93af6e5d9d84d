package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"afmq/pkg/export/gguf"
)

type ggufObject struct {
	Schema   string `json:"schema"`
	Artifact string `json:"artifact"`
	To       string `json:"to"`
	Out      string `json:"out"`
	*gguf.Result
}

func (a *app) exportGGUF(cmd *cobra.Command, dir string, o *exportFlags) error {
	opts := gguf.Options{
		Artifact: dir, Out: o.out, As: o.as, Name: o.name, Context: o.context, AllowUnbound: o.adapters.allowUnbound,
		Pool: a.workers(), Progress: a.progress(), ToolVersion: version,
	}
	list, err := o.adapters.adapters()
	if err != nil {
		return err
	}
	for _, x := range list {
		opts.Adapters = append(opts.Adapters, gguf.Adapter{Name: x.Name, Dir: x.Dir})
	}
	r, err := gguf.Export(cmd.Context(), opts)
	if err != nil {
		return err
	}
	object := ggufObject{"afmq.export-gguf/v1", dir, o.to, o.out, r}
	return a.print(object, func(w io.Writer) error { return printGGUF(w, object) })
}

func printGGUF(w io.Writer, o ggufObject) error {
	return table(w, func(w io.Writer) {
		form := "as stored"
		if o.As != "" {
			form = "dequantized to " + o.As
		}
		fmt.Fprintf(w, "architecture\t%s, %s positions\n", o.Architecture, thousands(int64(o.Context)))
		fmt.Fprintf(w, "tokenizer\t%s, pre-tokenizer %s\n", o.Tokenizer, o.PreTokenizer)
		fmt.Fprintf(w, "weights\t%d tensors, matrices %s\n", o.Tensors, form)
		fmt.Fprintf(w, "size\t%s\n", size(o.Bytes))
		for _, note := range o.Notes {
			fmt.Fprintf(w, "note\t%s\n", note)
		}
		fmt.Fprintf(w, "content hash\t%s\n", o.ContentHash)
		fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", o.Seconds, size(o.PeakRSSBytes))
		for _, x := range o.Adapters {
			fmt.Fprintf(w, "adapter\t%s, %s\n", whole(x.File), size(x.Bytes))
		}
		fmt.Fprintf(w, "wrote\t%s\n", whole(o.Out))
		if filepath.Ext(o.Out) != ".gguf" {
			fmt.Fprint(w, "rename\tllama.cpp's tools expect a name that ends in .gguf\n")
		}
	})
}

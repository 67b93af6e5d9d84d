package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"afmq/pkg/export/coreml"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
)

// exportTargets are the values of --to.
var exportTargets = []string{"coreml"}

type exportObject struct {
	Schema   string `json:"schema"`
	Artifact string `json:"artifact"`
	To       string `json:"to"`
	Out      string `json:"out"`
	*coreml.Result
}

func newExportCommand(a *app) *cobra.Command {
	var to string
	var o coreml.Options
	var adapters adapterFlags
	cmd := &cobra.Command{
		Use:   "export ARTIFACT --to coreml --out NAME.mlpackage",
		Short: "Convert an artifact to a Core ML package",
		Long: `Writes ARTIFACT as a Core ML model package for iOS 18, macOS 15 and later. Needs no Apple
tools. The palettes stay as they are: indices, tables and row scales have the same bits in
the package, and after writing the command reads it back and compares them.

The program has two functions over the same weights: decode, for one token, and prefill, for
a chunk of them. Both take input_ids and position, the number of tokens in the caches, and
return the logits of every token. The key and value caches are states. Each --adapter adds
decode_NAME and prefill_NAME; - in a name becomes _.

Core ML computes in fp16. It has palettes of 1, 2, 3, 4, 6 and 8 bits; 5 and 7 are refused.
--target coreml-ios26 declares the versions of iOS 26 and macOS 26; the operations are the same.
docs/devices-apple.md says what has been verified.`,
		Example: `  afmq export my-4bit --to coreml --out my-4bit.mlpackage
  afmq export my-4bit --to coreml --adapter recovered/rank-16 --ctx 4096 --out my.mlpackage`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to != "coreml" {
				return fault.Usagef("--to %q: expected %s", to, strings.Join(exportTargets, " or "))
			}
			list, err := adapters.adapters()
			if err != nil {
				return err
			}
			for _, x := range list {
				o.Adapters = append(o.Adapters, coreml.Adapter{Name: x.Name, Dir: x.Dir})
			}
			o.AllowUnbound = adapters.allowUnbound
			o.Artifact, o.Pool, o.Progress, o.ToolVersion = args[0], a.workers(), a.progress(), version
			r, err := coreml.Export(cmd.Context(), o)
			if err != nil {
				return err
			}
			object := exportObject{"afmq.export/v1", args[0], to, o.Out, r}
			return a.print(object, func(w io.Writer) error { return printExport(w, object) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "`TARGET`: coreml")
	registerOut(f, &o.Out, outDir, "`DIR` to create, NAME.mlpackage; must not exist, or be empty")
	f.StringVar(&o.Target, "target", "", "oldest `SYSTEM` that opens the package: "+strings.Join(target.OfExport("coreml"), " or ")+" (default "+coreml.DefaultTarget+")")
	f.IntVar(&o.Context, "ctx", 0, "`N` positions of the caches (default: min(2048, max_position_embeddings))")
	f.IntVar(&o.Chunk, "chunk", 0, "`N` tokens in a call of prefill (default: min(64, --ctx))")
	adapters.register(f)
	f.Lookup("adapter").Usage = "add the functions of the adapter `[NAME=]DIR`; repeatable. NAME is the directory's by default"
	f.BoolVar(&o.Restart, "restart", false, "discard what an interrupted run left")
	must(cmd.MarkFlagRequired("to"))
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func printExport(w io.Writer, o exportObject) error {
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "functions\t%s\n", strings.Join(o.Functions, ", "))
		fmt.Fprintf(w, "target\t%s\n", o.Target)
		fmt.Fprintf(w, "context\t%d positions, %d tokens in a call of prefill\n", o.Context, o.Chunk)
		fmt.Fprintf(w, "size\t%s, %s of it weights\n", size(o.Bytes), size(o.WeightBytes))
		fmt.Fprintf(w, "read back\t%d palettes, equal bit for bit\n", o.Palettes)
		fmt.Fprintf(w, "content hash\t%s\n", o.ContentHash)
		fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", o.Seconds, size(o.PeakRSSBytes))
		fmt.Fprintf(w, "wrote\t%s\n", whole(o.Out))
		if filepath.Ext(filepath.Clean(o.Out)) != ".mlpackage" {
			fmt.Fprint(w, "rename\tCore ML's tools open a package only under a name that ends in .mlpackage\n")
		}
	})
}

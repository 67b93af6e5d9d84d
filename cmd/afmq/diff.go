package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"afmq/pkg/artifact"
	"afmq/pkg/fault"
)

type diffObject struct {
	Schema    string `json:"schema"`
	Reference string `json:"reference,omitempty"`
	*artifact.Difference
}

func newDiffCommand(a *app) *cobra.Command {
	var o artifact.DiffOptions
	exitCode := false
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare artifacts, checkpoints and GGUF files, by layer",
		Long: `Compares the models A and B, artifacts, checkpoints or GGUF files of the same shape: bits,
sizes, the distance of the weights, and the differences of the manifests or of the keys of
two GGUF files. Artifacts are verified first.

  distance   root mean square difference of the weights, relative to those of A; if A is the
             checkpoint of an artifact B, the relative error of B
  tables     the same for the sorted look-up tables of two palettes
  changed    share of the weights whose value differs

With --reference relative errors are measured against the 16-bit checkpoint; without it they
are those of the manifests. The exit code is 0 whether or not the models differ; with
--exit-code it is 5 if they differ.`,
		Example: `  afmq diff release/model nightly/model --reference models/my-model
  afmq diff models/my-model my-4bit
  afmq diff my-model-Q4_K_M.gguf my-4bit --reference models/my-model
  afmq diff first second --exit-code --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Pool, o.Progress = a.workers(), a.progress()
			d, err := artifact.Diff(cmd.Context(), args[0], args[1], o)
			if err != nil {
				return err
			}
			if err := a.print(diffObject{"afmq.diff/v1", o.Reference, d}, func(w io.Writer) error { return printDiff(w, d) }); err != nil {
				return err
			}
			if exitCode && !d.Same {
				return &fault.Error{Kind: fault.Gate, Msg: fmt.Sprintf("%s and %s differ", args[0], args[1])}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&o.Reference, "reference", "", "measure relative errors against `MODEL`, the 16-bit checkpoint")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with code 5 if anything differs")
	return cmd
}

func printDiff(w io.Writer, d *artifact.Difference) error {
	if d.Same {
		_, err := fmt.Fprintf(w, "%s and %s are the same\n", d.A.Path, d.B.Path)
		return err
	}
	if err := printDiffTotals(w, d); err != nil {
		return err
	}
	if d.Totals.LayersChanged == 0 {
		return nil
	}
	return printDiffLayers(w, d)
}

// printDiffLayers prints two tables of the tensors that differ: how they are stored, and by
// how much they differ.
func printDiffLayers(w io.Writer, d *artifact.Difference) error {
	var changed []artifact.LayerDifference
	for _, l := range slices.Concat(d.Layers, d.Vectors) {
		if !l.Same {
			changed = append(changed, l)
		}
	}
	err := table(w, func(w io.Writer) {
		fmt.Fprintf(w, "\nchanged\tform\tbits\tsize\n")
		for _, l := range changed {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", shortName(l.Name), arrow(string(l.A.Form), string(l.B.Form)),
				arrow(fmt.Sprint(l.A.Bits), fmt.Sprint(l.B.Bits)), arrow(size(l.A.Bytes), size(l.B.Bytes)))
		}
	})
	if err != nil {
		return err
	}
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "\nchanged\tdistance\ttables\tchanged\terror in A\tin B\n")
		for _, l := range changed {
			fmt.Fprintf(w, "%s\t%s\t%s\t%.1f %%\t%s\t%s\n", shortName(l.Name),
				share(l.WeightDistance), share(l.LUTDistance), 100*l.WeightsChanged, share(l.A.RelError), share(l.B.RelError))
		}
	})
}

func printDiffTotals(w io.Writer, d *artifact.Difference) error {
	if _, err := fmt.Fprintf(w, "A  %s\nB  %s\n\n", d.A.Path, d.B.Path); err != nil {
		return err
	}
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "\tA\tB\n")
		fmt.Fprintf(w, "kind\t%s\t%s\n", d.A.Kind, d.B.Kind)
		fmt.Fprintf(w, "content hash\t%.16s…\t%.16s…\n", d.A.ContentHash, d.B.ContentHash)
		fmt.Fprintf(w, "weights\t%s\t%s\n", size(d.A.Bytes), size(d.B.Bytes))
		fmt.Fprintf(w, "bits per weight\t%.4f\t%.4f\tin projections\n", d.A.BPW.Projections, d.B.BPW.Projections)
		fmt.Fprintf(w, "\t%.4f\t%.4f\tin the model\n", d.A.BPW.Model, d.B.BPW.Model)
		if t := d.Totals; t.RelErrorA != nil || t.RelErrorB != nil {
			fmt.Fprintf(w, "relative error\t%s\t%s\n", share(t.RelErrorA), share(t.RelErrorB))
		}
		for _, k := range d.Provenance {
			fmt.Fprintf(w, "%s\t%s\t%s\n", printable(k.Key), short(printable(k.A)), short(printable(k.B)))
		}
		for _, f := range d.Files {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, short(f.A), short(f.B))
		}
		if d.IsSource != nil {
			fmt.Fprintf(w, "made from the checkpoint\t%s\n", yesNo(*d.IsSource))
		}
		fmt.Fprintf(w, "\ntensors changed\t%d\n", d.Totals.LayersChanged)
		fmt.Fprintf(w, "weights changed\t%.2f %%\n", 100*d.Totals.WeightsChanged)
		fmt.Fprintf(w, "distance\t%s\n", share(d.Totals.WeightDistance))
	})
}

// arrow says what became of a value.
func arrow(a, b string) string {
	if a == b {
		return a
	}
	return a + " → " + b
}

// share prints a relative figure.
func share(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.5f", *x)
}

// short prints the beginning of a digest, and other values whole.
func short(s string) string {
	switch {
	case s == "":
		return "-"
	case len(s) == 64:
		return s[:16] + "…"
	}
	return s
}

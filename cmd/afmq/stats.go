package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"afmq/pkg/fault"
	"afmq/pkg/sensitivity"
)

type statsOptions struct {
	out       string
	calib     calibrationFlags
	grid      gridFlags
	embedding bool
	samples   int
	shard     shardFlag
	restart   bool
	dryRun    dryRunFlag
	compute   computeFlag
}

type statsObject struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	Out    string `json:"out"`
	Shard  string `json:"shard,omitempty"`
	*sensitivity.StatsResult
}

func newStatsCommand(a *app) *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:   "stats MODEL --calib FILE --out DIR",
		Short: "Collect the statistics of calibration text, whole or in shards",
		Long: `Runs calibration text once through the 16-bit checkpoint MODEL, forward and backward, and
writes what quantization needs of it to DIR: the second moments of every module's input, those of
the gradients at its output, and the sensitivity scores of method fisher at the widths of --bits.
Then ` + "`afmq quantize --stats DIR`" + ` needs no text, and its modules do not depend on one another, so
that they can be quantized in any order and on several machines.

` + shardHelp + `
A shard runs a part of the text. Their sums are added in a fixed order: any number of shards
gives the same bytes. ` + "`afmq quantize --stats`" + ` reads the shards as they are, once all are
complete; ` + "`afmq merge DIR --out DIR2`" + ` makes one directory of them.

An input or output of width d takes 2·d² bytes: in all 7 GB for a model of 3 B parameters, 20 GB
for one of 8 B.`,
		Example: `  afmq stats models/my-model --calib calib.jsonl --out stats
  afmq stats models/my-model --calib calib.jsonl --out stats --shard 0/4
  srun -n 4 afmq stats models/my-model --calib calib.jsonl --out stats --shard auto`,
		RunE: func(cmd *cobra.Command, args []string) error { return runStats(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	registerOut(f, &o.out, outDir, "`DIR` to create; with --shard, the directory of the job")
	o.calib.register(f)
	o.grid.register(f, "`WIDTHS` to score (default 2,3,4 for palette, 2,3,4,5,6 for affine, 4,8 for symmetric)")
	f.BoolVar(&o.embedding, "embedding", false, "also score the embedding and an untied head, for quantize --bpw-of model")
	f.IntVar(&o.samples, "samples", 1, "number `N` of labels drawn per token, one backward pass each")
	o.shard.register(f)
	o.compute.register(f, "f32")
	o.dryRun.register(f)
	f.BoolVar(&o.restart, "restart", false, "discard the state of an interrupted run")
	must(cmd.MarkFlagRequired("calib"))
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func runStats(cmd *cobra.Command, a *app, model string, o statsOptions) error {
	opts := sensitivity.StatsOptions{Options: sensitivity.Options{
		Model: model, Out: o.out, Restart: o.restart, Ends: o.embedding, GroupRows: o.grid.groupRows, NoRowScale: !o.grid.rowScale, Samples: o.samples,
		Pool: a.workers(), Memory: a.memoryBytes, Progress: a.progress(), ToolVersion: version,
	}}
	if o.samples < 1 {
		return fault.Usagef("--samples %d must be at least 1", o.samples)
	}
	var err error
	if opts.Shard, err = o.shard.choose(); err != nil {
		return err
	}
	if opts.Bits, opts.Forms, err = o.grid.choose(cmd.Flags(), true); err != nil {
		return err
	}
	if opts.Calibration, err = o.calib.options(); err != nil {
		return err
	}
	if opts.Compute, err = o.compute.choose(false); err != nil {
		return err
	}
	if o.dryRun.on {
		e, err := sensitivity.EstimateStats(cmd.Context(), opts)
		if err != nil {
			return err
		}
		return o.dryRun.print(a, "stats", o.out, "divide the text among more shards, give fewer --tokens, or more --memory", e)
	}
	r, err := sensitivity.CollectStats(cmd.Context(), opts)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	object := statsObject{Schema: "afmq.stats/v1", Model: model, Out: o.out, StatsResult: r}
	if opts.Shard.Divided() {
		object.Shard = opts.Shard.String()
	}
	return a.print(object, func(w io.Writer) error {
		if r.Already {
			_, err := fmt.Fprintf(w, "%s was complete before\n", r.Path)
			return err
		}
		return table(w, func(w io.Writer) {
			fmt.Fprintf(w, "statistics\t%s tokens, %d layers, %s\n", thousands(r.Tokens), r.Layers, size(r.Bytes))
			fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", r.Seconds, size(r.PeakRSSBytes))
			fmt.Fprintf(w, "wrote\t%s\n", whole(r.Path))
		})
	})
}

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"afmq/internal/disk"
	"afmq/pkg/fault"
	"afmq/pkg/quantize"
	"afmq/pkg/sensitivity"
	"afmq/pkg/shard"
)

type mergeOptions struct {
	out, model, stats string
	status            bool
}

// mergeObject is the result of a merge: of Artifact, Statistics and Scores, two are null.
type mergeObject struct {
	Schema     string                   `json:"schema"`
	Dir        string                   `json:"dir"`
	Out        string                   `json:"out"`
	Command    string                   `json:"command"`
	Shards     int                      `json:"shards"`
	Artifact   *quantize.Result         `json:"artifact"`
	Statistics *sensitivity.StatsResult `json:"statistics"`
	Scores     *sensitivity.Scores      `json:"scores"`
}

type mergeStatusObject struct {
	Schema   string         `json:"schema"`
	Dir      string         `json:"dir"`
	Command  string         `json:"command"`
	Complete bool           `json:"complete"`
	Shards   []shard.Status `json:"shards"`
}

func newMergeCommand(a *app) *cobra.Command {
	var o mergeOptions
	cmd := &cobra.Command{
		Use:   "merge DIR --out PATH",
		Short: "Make the result of a job that ran in shards, or show how far they are",
		Long: `DIR is what the shards of ` + "`afmq quantize`" + `, ` + "`afmq stats`" + ` or ` + "`afmq sensitivity`" + ` were given as --out.
Their artifact, their statistics or their scores, a file, are written to PATH, with the bytes
that one run would have given. Every tensor is compared with the digest that its shard recorded.

A shard that is missing or damaged, or is of another job, other weights or another version of
this program, is an error that names it; nothing is written then. The checkpoint and the
statistics are read again: --model and --stats say where they are if they have moved.

--status writes nothing, and lists the shards:
  done     complete
  running  a process has its lock; "idle" is the time since it saved something, by the clock
           of the file system
  stopped  it has saved state and no process: run its command again
  missing  it has not begun`,
		Example: `  afmq merge shards --status
  afmq merge shards --out my-3.5bit`,
		RunE: func(cmd *cobra.Command, args []string) error { return runMerge(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	registerOut(f, &o.out, outNamed, "`PATH` to create; must not exist, or be an empty directory")
	f.BoolVar(&o.status, "status", false, "list the shards and their state, and write nothing")
	f.StringVar(&o.model, "model", "", "the checkpoint `MODEL`, if it is not where the first shard found it")
	f.StringVar(&o.stats, "stats", "", "`DIR` of the statistics, if they are not where the first shard found them")
	return cmd
}

func runMerge(cmd *cobra.Command, a *app, dir string, o mergeOptions) error {
	set, err := shard.Open(dir)
	if err != nil {
		return err
	}
	switch {
	case o.status && o.out != "":
		return fault.Usagef("--status and --out exclude each other: --status writes nothing")
	case o.status:
		return printMergeStatus(a, set)
	case o.out == "":
		return fault.Usagef("--out PATH is missing").WithHint("give it, or --status")
	}
	object := mergeObject{Schema: "afmq.merge/v1", Dir: dir, Out: o.out, Command: set.Command, Shards: set.Shards}
	if set.Command == "sensitivity" {
		if object.Scores, err = sensitivity.MergeScores(dir); err != nil {
			return err
		}
		data, err := object.Scores.Encode()
		if err != nil {
			return err
		}
		if err := disk.WriteNewFile(o.out, data); err != nil {
			return err
		}
		return a.print(object, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%d shards, %d modules\nwrote %s\n", set.Shards, len(object.Scores.Modules), o.out)
			return err
		})
	}
	if set.Command == "stats" {
		s, err := sensitivity.OpenStats(dir)
		if err != nil {
			return err
		}
		if object.Statistics, err = s.Merge(cmd.Context(), o.out, a.progress()); err != nil {
			return err
		}
		return a.print(object, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%d shards, %s tokens, %s\nwrote %s\n", set.Shards, thousands(object.Statistics.Tokens), size(object.Statistics.Bytes), o.out)
			return err
		})
	}
	object.Artifact, err = quantize.Merge(cmd.Context(), quantize.MergeOptions{
		Dir: dir, Out: o.out, Model: o.model, Stats: o.stats, Pool: a.workers(), Progress: a.progress(), ToolVersion: version,
	})
	if err != nil {
		return err
	}
	a.warn(object.Artifact.Warnings)
	return a.print(object, func(w io.Writer) error {
		if err := printResult(w, object.Artifact); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\nwrote %s\n", o.out)
		return err
	})
}

func printMergeStatus(a *app, set *shard.Set) error {
	object := mergeStatusObject{Schema: "afmq.merge-status/v1", Dir: set.Dir, Command: set.Command, Complete: true, Shards: set.Status()}
	for _, s := range object.Shards {
		object.Complete = object.Complete && s.State == shard.Done
	}
	return a.print(object, func(w io.Writer) error {
		return table(w, func(w io.Writer) {
			fmt.Fprintf(w, "shard\tstate\tfinished\tidle\n")
			for _, s := range object.Shards {
				finished, idle := "-", "-"
				if s.Total > 0 {
					finished = fmt.Sprintf("%d of %d", s.Pieces, s.Total)
				}
				if s.Idle != nil {
					idle = fmt.Sprintf("%.0f s", *s.Idle)
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", s.Shard, s.State, finished, idle)
			}
		})
	})
}

package main

import (
	"os"

	"github.com/spf13/pflag"

	"afmq/pkg/shard"
)

// shardFlag is the share of a job that a command runs.
type shardFlag struct{ text string }

func (s *shardFlag) register(f *pflag.FlagSet) {
	f.StringVar(&s.text, "shard", "", "run share `I/N` of the job, I from 0, into --out, which all shares have in common; auto takes I and N from the scheduler's environment, auto/N only I")
}

// choose returns the shard; the zero value without the flag.
func (s *shardFlag) choose() (shard.Shard, error) { return shard.Parse(s.text, os.Getenv) }

// shardHelp explains --shard.
const shardHelp = `--shard I/N runs one of N shares of the job, which can run side by side on machines that
share a file system: all are given the same --out. --shard auto finds its share in the
environment of a Slurm job array or step, or of torchrun; --shard auto/N, in that of a
Kubernetes Indexed Job of N completions. A share that was interrupted continues when it is
given again; one that is complete is left as it is.`

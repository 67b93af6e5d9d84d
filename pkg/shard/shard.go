package shard

import (
	"fmt"
	"strconv"
	"strings"

	"afmq/pkg/fault"
)

// Shard is one of Count shares of a job; Index counts from 0. The zero value is a job that is not
// divided.
type Shard struct{ Index, Count int }

// maxCount is the largest number of shards.
const maxCount = 1 << 14

// Divided reports whether there are shards at all.
func (s Shard) Divided() bool { return s.Count > 0 }

// String returns the shard as [Parse] reads it, such as "2/4".
func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Count) }

// Name returns the name of the shard's directory, such as "shard-0002-of-0004".
func (s Shard) Name() string { return fmt.Sprintf("shard-%04d-of-%04d", s.Index, s.Count) }

// Range returns the items [from, to) of n that are the shard's; all of them if there are no shards.
func (s Shard) Range(n int) (from, to int) {
	if !s.Divided() {
		return 0, n
	}
	return n * s.Index / s.Count, n * (s.Index + 1) / s.Count
}

// variables are those by which schedulers say which task of how many a process is.
var variables = []struct{ what, index, count, first string }{
	{"a Slurm job array", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"},
	{"a Slurm step", "SLURM_PROCID", "SLURM_NTASKS", ""},
	{"torchrun", "RANK", "WORLD_SIZE", ""},
}

// indexVariable is that of a Kubernetes Indexed Job, which does not say how many there are.
const indexVariable = "JOB_COMPLETION_INDEX"

// Parse reads a shard: "I/N", with I from 0; "auto", which takes both from the environment that
// Slurm's job arrays and steps and torchrun set, in this order; or "auto/N", which takes I from them
// or from a Kubernetes Indexed Job. Empty text is the zero value. Errors are fault.Usage.
func Parse(text string, getenv func(string) string) (Shard, error) {
	if text == "" {
		return Shard{}, nil
	}
	index, count, divided := strings.Cut(text, "/")
	var s Shard
	if index == "auto" {
		var err error
		if s, err = fromEnvironment(getenv, divided); err != nil {
			return Shard{}, err
		}
	} else {
		i, err := strconv.Atoi(index)
		if err != nil || !divided {
			return Shard{}, fault.Usagef("shard %q: expected I/N, such as 0/4, or auto", text)
		}
		s.Index = i
	}
	if divided {
		n, err := strconv.Atoi(count)
		if err != nil {
			return Shard{}, fault.Usagef("shard %q: expected I/N, such as 0/4, or auto", text)
		}
		if s.Count != 0 && s.Count != n {
			return Shard{}, fault.Usagef("shard %q: the scheduler says that there are %d", text, s.Count)
		}
		s.Count = n
	}
	if s.Count < 1 || s.Count > maxCount {
		return Shard{}, fault.Usagef("%d shards: expected 1 to %d", s.Count, maxCount)
	}
	if s.Index < 0 || s.Index >= s.Count {
		return Shard{}, fault.Usagef("shard %d of %d: they count from 0 to %d", s.Index, s.Count, s.Count-1)
	}
	return s, nil
}

// fromEnvironment returns the shard that the environment names; its count is 0 if only the index is
// known, which needs divided.
func fromEnvironment(getenv func(string) string, divided bool) (Shard, error) {
	for _, v := range variables {
		if getenv(v.index) == "" || getenv(v.count) == "" {
			continue
		}
		i, err := number(getenv, v.index)
		if err != nil {
			return Shard{}, err
		}
		n, err := number(getenv, v.count)
		if err != nil {
			return Shard{}, err
		}
		if v.first != "" && getenv(v.first) != "" {
			first, err := number(getenv, v.first)
			if err != nil {
				return Shard{}, err
			}
			i -= first
		}
		if i < 0 || i >= n {
			return Shard{}, fault.Usagef("shard auto: %s has %s=%s and %s=%s: the indices must be consecutive", v.what, v.index, getenv(v.index), v.count, getenv(v.count)).
				WithHint("give --shard I/N")
		}
		return Shard{i, n}, nil
	}
	switch {
	case getenv(indexVariable) == "":
		return Shard{}, fault.Usagef("shard auto: the environment has no variables of Slurm, torchrun or a Kubernetes Indexed Job").
			WithHint("give --shard I/N")
	case !divided:
		return Shard{}, fault.Usagef("shard auto: %s does not say how many shards there are", indexVariable).
			WithHint("give --shard auto/N, with the completions of the job as N")
	}
	i, err := number(getenv, indexVariable)
	return Shard{Index: i}, err
}

// number returns the number in an environment variable.
func number(getenv func(string) string, name string) (int, error) {
	n, err := strconv.Atoi(getenv(name))
	if err != nil {
		return 0, fault.Usagef("shard auto: %s=%q is not a number", name, getenv(name))
	}
	return n, nil
}

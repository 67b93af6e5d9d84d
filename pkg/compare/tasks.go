package compare

import (
	"slices"

	"afmq/pkg/fault"
	"afmq/pkg/lmeval"
)

// readTasks reads the results of lm-evaluation-harness and compares them with those of the
// reference, by the name of their rows. Runs that cannot be compared with each other are refused.
func readTasks(o *Options, names []string) (out map[string]*Tasks, warnings []string, err error) {
	runs := map[string]*lmeval.Results{}
	var read []*lmeval.Results // in the order of the options
	for _, t := range o.Tasks {
		if !slices.Contains(names, t.Row) {
			return nil, nil, unknownRow(t, names)
		}
		if runs[t.Row] != nil {
			return nil, nil, fault.Usagef("%q has two results: %s and %s", t.Row, runs[t.Row].File, t.Path).
				WithHint("run all tasks at once, so that one file has all results of a model")
		}
		r, err := lmeval.Read(t.Path)
		if err != nil {
			return nil, nil, err
		}
		for other, s := range runs {
			if s.SHA256 == r.SHA256 {
				return nil, nil, fault.Inputf(r.File, "has the same content as the results of %s: one run cannot be that of two models", other)
			}
		}
		for _, earlier := range read { // the first one need not have every task
			if err := r.CheckComparable(earlier); err != nil {
				return nil, nil, err
			}
		}
		read, runs[t.Row] = append(read, r), r
	}
	var reference *lmeval.Results
	if o.Reference != nil {
		reference = runs[o.Reference.Name]
	}
	out = map[string]*Tasks{}
	for _, name := range names {
		run := runs[name]
		if run == nil {
			continue
		}
		base := reference
		if run == reference {
			base = nil
		}
		scores, more, err := lmeval.Compare(base, run)
		if err != nil {
			return nil, nil, err
		}
		warnings = append(warnings, more...)
		out[name] = &Tasks{File: run.File, SHA256: run.SHA256, Version: run.Version, Scores: scores}
	}
	return out, warnings, nil
}

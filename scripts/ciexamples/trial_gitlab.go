package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// gitlab runs the pipeline; rise is that of the loss of an artifact with fewer bits.
func (t *trial) gitlab(pipeline, rise string) error {
	include, jobs, err := includeOf(pipeline)
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(filepath.Base(templateFile), ".")
	if got, _, _ := strings.Cut(filepath.Base(include.Component), "@"); got != name {
		return fmt.Errorf("the component is %s, expected %s", got, name)
	}
	for name, job := range jobs {
		if job.Stage != "deploy" || len(job.Script) == 0 {
			return fmt.Errorf("the job %s is in the stage %q; deploy, which waits for the gate, is expected", name, job.Stage)
		}
	}
	fewer := strings.ReplaceAll(include.Inputs["options"], "3.5", "2.5")
	for _, c := range []gitlabCase{
		{name: "first run", limits: allLimits},
		{name: "second run", limits: allLimits, cached: true},
		{name: "fewer bits", inputs: map[string]string{"options": fewer}, status: 5, limits: allLimits, failures: 1, errors: 1},
		{name: "a margin equal to the rise", inputs: map[string]string{"options": fewer, "max-nats": rise, "max-kl-rise": ""},
			status: 7, limits: []string{"max-nats", "max-bytes"}, errors: 1, cached: true},
	} {
		if err := t.runGitLab(include, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// gitlabCase is a run of the component with some inputs changed, and what is expected of it.
type gitlabCase struct {
	name             string
	inputs           map[string]string
	status           int
	limits           []string // test cases of the report
	failures, errors int
	cached           bool // the artifact comes from the cache
}

// runGitLab runs one case and checks it.
func (t *trial) runGitLab(include gitlabInclude, c gitlabCase) error {
	inputs := maps.Clone(include.Inputs)
	maps.Copy(inputs, c.inputs)
	template, err := os.ReadFile(templateFile)
	if err != nil {
		return err
	}
	job, err := component(string(template), inputs)
	if err != nil {
		return err
	}
	if job.AllowFailure {
		return fmt.Errorf("the job may fail")
	}
	dir, err := t.checkOut(false)
	if err != nil {
		return err
	}
	// The script removes the directory "other" from its cache when it compresses.
	cache := filepath.Join(t.root, "gitlab-cache")
	other := filepath.Join(cache, ".afmq-cache/other")
	if err := os.MkdirAll(other, 0o755); err != nil {
		return err
	}
	status, log, err := job.run(dir, cache)
	if err != nil {
		return err
	}
	if status != c.status {
		return fmt.Errorf("exit code %d, expected %d:\n%s", status, c.status, log)
	}
	if _, err := os.Stat(other); (err == nil) != c.cached {
		return fmt.Errorf("compressed: %v, expected %v", err != nil, !c.cached)
	}
	return checkReport(filepath.Join(dir, job.Artifacts.Reports.JUnit), c.limits, c.failures, c.errors)
}

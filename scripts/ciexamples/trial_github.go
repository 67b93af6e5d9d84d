package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// changes are replacements in the text of an example.
type changes []string

func (c changes) apply(text string) (string, error) {
	for i := 0; i < len(c); i += 2 {
		if !strings.Contains(text, c[i]) {
			return "", fmt.Errorf("the example does not contain %q", c[i])
		}
	}
	return strings.NewReplacer(c...).Replace(text), nil
}

// githubCase is a run of the workflow with some changes, and what is expected of it.
type githubCase struct {
	name             string
	changes          changes
	noBaseline       bool
	verdict          string
	status           int
	limits           []string // test cases of the report; nil for no report
	failures, errors int
	saves            int // artifacts in the cache afterwards
	uploads          string
}

var allLimits = []string{"max-nats", "max-kl-rise", "max-bytes"}

// github runs the workflow, and returns the rise of the loss of an artifact with fewer bits.
func (t *trial) github(workflow string) (string, error) {
	r := &githubRunner{temp: filepath.Join(t.root, "runner"), cache: map[string]string{}}
	if err := os.Mkdir(r.temp, 0o755); err != nil {
		return "", err
	}
	fewer := changes{"--bpw 3.5", "--bpw 2.5"}
	rise := ""
	for _, c := range []githubCase{
		{name: "first run", verdict: "no_worse", limits: allLimits, saves: 1, uploads: "my-model verdict"},
		{name: "second run", verdict: "no_worse", limits: allLimits, saves: 1, uploads: "my-model verdict"},
		{name: "fewer bits", changes: fewer, verdict: "worse", status: 5, limits: allLimits, failures: 1, errors: 1, saves: 2, uploads: "verdict"},
		{name: "a margin equal to the rise", changes: append(fewer, `max-nats: "0.01"`, `max-nats: "RISE"`, `max-kl-rise: "0.002"`, ""),
			verdict: "inconclusive", status: 7, limits: []string{"max-nats", "max-bytes"}, errors: 1, saves: 2, uploads: "verdict"},
		{name: "no baseline", noBaseline: true, verdict: "error", status: 3, saves: 2},
	} {
		text, err := c.changes.apply(workflow)
		if err != nil {
			return "", err
		}
		g, err := t.runGitHub(r, c, strings.ReplaceAll(text, "RISE", rise))
		if err != nil {
			return "", fmt.Errorf("%s: %w", c.name, err)
		}
		if c.verdict == "worse" {
			m := regexp.MustCompile(`baseline [\d.]+: \+([\d.]+)`).FindStringSubmatch(g.summary)
			if m == nil {
				return "", fmt.Errorf("the summary has no rise:\n%s", g.summary)
			}
			rise = m[1]
		}
	}
	return rise, t.keys(r)
}

// runGitHub runs one case and checks it.
func (t *trial) runGitHub(r *githubRunner, c githubCase, workflow string) (*githubRun, error) {
	dir, err := t.checkOut(false)
	if err != nil {
		return nil, err
	}
	if c.noBaseline {
		if err := os.Remove(filepath.Join(dir, "baseline.json")); err != nil {
			return nil, err
		}
	}
	g, err := r.run(workflow, dir)
	if err != nil {
		return nil, err
	}
	if g.outputs["verdict"] != c.verdict || g.status != c.status {
		return nil, fmt.Errorf("verdict %q with exit code %d, expected %q with %d:\n%s", g.outputs["verdict"], g.status, c.verdict, c.status, g.log.String())
	}
	if g.passed["artifact"] != (c.status == 0) || g.passed["ship"] != (c.status == 0) {
		return nil, fmt.Errorf("jobs passed: %v", g.passed)
	}
	if r.saves != c.saves {
		return nil, fmt.Errorf("%d artifacts were saved so far, expected %d", r.saves, c.saves)
	}
	if got := strings.Join(g.uploads, " "); got != c.uploads {
		return nil, fmt.Errorf("uploads %q, expected %q", got, c.uploads)
	}
	// In Markdown only a fenced block keeps its lines.
	if !regexp.MustCompile("(?s)^### afmq gate: " + c.verdict + "\n\n```text\n.*\n```\n$").MatchString(g.summary) {
		return nil, fmt.Errorf("the summary is\n%s", g.summary)
	}
	if c.limits == nil {
		return g, nil
	}
	return g, checkReport(filepath.Join(dir, g.outputs["report"]), c.limits, c.failures, c.errors)
}

// keys checks that the key of the artifact changes with everything that determines it, and with
// nothing else.
func (t *trial) keys(r *githubRunner) error {
	data, err := os.ReadFile(actionFile)
	if err != nil {
		return err
	}
	var a githubAction
	if err := yaml.Unmarshal(data, &a); err != nil {
		return err
	}
	var prepare []githubStep
	for _, s := range a.Runs.Steps {
		if s.ID == "prepare" {
			prepare = append(prepare, s)
		}
	}
	seen := map[string]string{}
	for _, c := range []struct {
		name, file, options string // a byte is appended to file
		same                bool   // key as before
	}{
		{name: "unchanged", options: "--bits 4 --calib=text/calib.jsonl"},
		{name: "other text", options: "--bits 4 --calib=text/calib.jsonl", file: "text/held-out.jsonl", same: true},
		{name: "options", options: "--bits 3 --calib=text/calib.jsonl"},
		{name: "calibration text", options: "--bits 4 --calib=text/calib.jsonl", file: "text/calib.jsonl"},
		{name: "checkpoint", options: "--bits 4 --calib=text/calib.jsonl", file: "models/my-model/config.json"},
		{name: "program", options: "--bits 4 --calib=text/calib.jsonl", file: "bin/afmq"},
	} {
		dir, err := t.checkOut(true)
		if err != nil {
			return err
		}
		if c.file != "" {
			f, err := os.OpenFile(filepath.Join(dir, c.file), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("\n")
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
		}
		g := &githubRun{dir: dir, runner: r}
		v := values{"inputs.program": "bin/afmq", "inputs.model": "models/my-model", "inputs.options": c.options, "github.action_path": dir}
		if ok, err := g.steps(prepare, v); err != nil || !ok {
			return fmt.Errorf("key: %w\n%s", err, g.log.String())
		}
		key := v["steps.prepare.outputs.key"]
		if other, known := seen[key]; known != c.same || key == "" {
			return fmt.Errorf("the key %q for a change of the %s occurred before (%q): %v, expected %v", key, c.name, other, known, c.same)
		}
		seen[key] = c.name
	}
	return nil
}

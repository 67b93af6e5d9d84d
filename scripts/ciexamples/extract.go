package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// example is one example of the page: a shell block or a pipeline.
type example struct {
	kind  string // "sh", "GitHub" or "GitLab"
	steps []step
	keeps []string // files and directories that the pipeline keeps
}

// step is what one shell runs.
type step struct {
	script   string
	pipefail bool
}

// extract returns the examples in the order of the page, and an error if one of the kinds
// is missing.
func extract(page string) ([]example, error) {
	var out []example
	seen := map[string]bool{}
	for i, block := range strings.Split("\n"+page, "\n```") {
		if i%2 == 0 {
			continue // between the fences
		}
		language, body, _ := strings.Cut(block, "\n")
		var e example
		var err error
		switch {
		case language == "sh":
			e = example{kind: "sh", steps: []step{{body, false}}}
		case language == "yaml" && strings.HasPrefix(body, "# .github/"):
			e, err = github(body)
		case language == "yaml" && strings.HasPrefix(body, "# .gitlab-ci.yml"):
			e, err = gitlab(body)
		default:
			err = errors.New("unknown kind of example")
		}
		if err != nil {
			return nil, fmt.Errorf("block %d, %s: %v", i/2+1, language, err)
		}
		out = append(out, e)
		seen[e.kind] = true
	}
	if len(seen) != 3 {
		return nil, fmt.Errorf("only %v found; expected sh, GitHub and GitLab", seen)
	}
	return out, nil
}

// github reads a workflow of one job.
func github(body string) (example, error) {
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct {
				Uses  string
				Run   string
				Shell string
				With  struct{ Path string }
			}
		}
	}
	e := example{kind: "GitHub"}
	if err := yaml.Unmarshal([]byte(body), &workflow); err != nil {
		return e, err
	}
	for _, job := range workflow.Jobs {
		for _, s := range job.Steps {
			if s.Run != "" {
				e.steps = append(e.steps, step{s.Run, s.Shell == "bash"})
			}
			if strings.HasPrefix(s.Uses, "actions/upload-artifact@") {
				e.keeps = append(e.keeps, strings.Fields(s.With.Path)...)
			}
		}
	}
	return e.check()
}

// gitlab reads a pipeline of one job, whose lines one shell runs.
func gitlab(body string) (example, error) {
	var jobs map[string]struct {
		Before    []string `yaml:"before_script"`
		Script    []string
		Artifacts struct {
			Paths   []string
			Reports struct{ JUnit string }
		}
	}
	e := example{kind: "GitLab"}
	if err := yaml.Unmarshal([]byte(body), &jobs); err != nil {
		return e, err
	}
	for _, job := range jobs {
		for _, line := range slices.Concat(job.Before, job.Script) {
			e.steps = append(e.steps, step{line, true})
		}
		e.keeps = append(append(e.keeps, job.Artifacts.Paths...), job.Artifacts.Reports.JUnit)
	}
	return e.check()
}

func (e example) check() (example, error) {
	if len(e.steps) < 3 || len(e.keeps) < 2 {
		return e, fmt.Errorf("%d steps and %d files kept are too few", len(e.steps), len(e.keeps))
	}
	return e, nil
}

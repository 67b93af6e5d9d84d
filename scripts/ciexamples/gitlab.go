package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// gitlabJob is a job of a pipeline.
type gitlabJob struct {
	Stage        string
	Variables    map[string]string
	Script       []string
	AllowFailure bool `yaml:"allow_failure"`
	Cache        struct{ Paths []string }
	Artifacts    struct {
		Paths   []string
		Reports struct{ JUnit string }
	}
}

// gitlabInclude is the use of a component.
type gitlabInclude struct {
	Component string
	Inputs    map[string]string
}

// component returns the job of a component for the given inputs.
func component(template string, inputs map[string]string) (gitlabJob, error) {
	var job gitlabJob
	d := yaml.NewDecoder(strings.NewReader(template))
	var head struct {
		Spec struct {
			Inputs map[string]struct{ Default *string }
		}
	}
	if err := d.Decode(&head); err != nil {
		return job, err
	}
	v := values{}
	for name, input := range head.Spec.Inputs {
		value, given := inputs[name]
		switch {
		case given:
			v["inputs."+name] = value
		case input.Default != nil:
			v["inputs."+name] = *input.Default
		default:
			return job, fmt.Errorf("input %s is required", name)
		}
	}
	for name := range inputs {
		if _, known := head.Spec.Inputs[name]; !known {
			return job, fmt.Errorf("there is no input %s", name)
		}
	}
	_, body, _ := strings.Cut(template, "\n---\n")
	text, err := v.expand(body, gitlabExpression)
	if err != nil {
		return job, err
	}
	var jobs map[string]gitlabJob
	if err := yaml.Unmarshal([]byte(text), &jobs); err != nil {
		return job, err
	}
	if len(jobs) != 1 {
		return job, fmt.Errorf("%d jobs, expected 1", len(jobs))
	}
	for _, job = range jobs {
	}
	return job, nil
}

// includeOf returns the component that a pipeline includes, and its other jobs.
func includeOf(pipeline string) (gitlabInclude, map[string]gitlabJob, error) {
	var p struct {
		Include []gitlabInclude
		Jobs    map[string]gitlabJob `yaml:",inline"`
	}
	if err := yaml.Unmarshal([]byte(pipeline), &p); err != nil {
		return gitlabInclude{}, nil, err
	}
	if len(p.Include) != 1 {
		return gitlabInclude{}, nil, fmt.Errorf("%d components are included, expected 1", len(p.Include))
	}
	return p.Include[0], p.Jobs, nil
}

// run runs the script of a job in a checkout as GitLab does, in one shell, with the cache in
// the directory cache. It returns the exit code and the output.
func (j *gitlabJob) run(dir, cache string) (int, string, error) {
	for _, path := range j.Cache.Paths {
		if err := copyAll(filepath.Join(cache, path), filepath.Join(dir, path)); err != nil && !os.IsNotExist(err) {
			return 0, "", err
		}
	}
	cmd := exec.Command("bash", "-eo", "pipefail", "-c", strings.Join(j.Script, "\n"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CI=true", "CI_PROJECT_DIR="+dir)
	for name, value := range j.Variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	log, err := cmd.CombinedOutput()
	exit, isExit := err.(*exec.ExitError)
	if err != nil && !isExit {
		return 0, "", err
	}
	for _, path := range j.Cache.Paths {
		if err := os.RemoveAll(filepath.Join(cache, path)); err != nil {
			return 0, "", err
		}
		if err := copyAll(filepath.Join(dir, path), filepath.Join(cache, path)); err != nil {
			return 0, "", err
		}
	}
	if isExit {
		return exit.ExitCode(), string(log), nil
	}
	for _, path := range j.Artifacts.Paths {
		if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
			return 0, "", fmt.Errorf("the job keeps a file that does not exist: %w", err)
		}
	}
	return 0, string(log), nil
}

// documents splits a YAML file.
func documents(data []byte) ([]any, error) {
	var out []any
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var v any
		err := d.Decode(&v)
		if err == io.EOF {
			return slices.Clip(out), nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
}

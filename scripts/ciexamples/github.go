package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// githubStep is a step of a job or of a composite action.
type githubStep struct {
	ID    string
	If    string
	Uses  string
	With  map[string]string
	Shell string
	Run   string
	Env   map[string]string
}

// githubJob is a job of a workflow.
type githubJob struct {
	Needs string
	Steps []githubStep
}

// githubAction is the metadata of a composite action.
type githubAction struct {
	Inputs map[string]struct {
		Required bool
		Default  string
	}
	Outputs map[string]struct{ Value string }
	Runs    struct {
		Using string
		Steps []githubStep
	}
}

// githubRun is the run of a workflow on a checkout. Actions of GitHub are imitated: caches are
// directories of the runner, and uploads are recorded.
type githubRun struct {
	dir     string // the checkout
	runner  *githubRunner
	summary string // of the job, in Markdown
	outputs values // of the gate's action: verdict, report, artifact
	uploads []string
	passed  map[string]bool // of the jobs that ran
	status  int             // exit code of the first step that failed
	log     strings.Builder
}

// githubRunner keeps what outlives a run.
type githubRunner struct {
	temp  string
	cache map[string]string // key -> directory
	saves int
}

// run runs the jobs of a workflow in the order in which they are written.
func (r *githubRunner) run(workflow, dir string) (*githubRun, error) {
	var w struct{ Jobs yaml.Node }
	if err := yaml.Unmarshal([]byte(workflow), &w); err != nil {
		return nil, err
	}
	g := &githubRun{dir: dir, runner: r, passed: map[string]bool{}}
	for i := 0; i+1 < len(w.Jobs.Content); i += 2 {
		name := w.Jobs.Content[i].Value
		var job githubJob
		if err := w.Jobs.Content[i+1].Decode(&job); err != nil {
			return nil, err
		}
		if job.Needs != "" && !g.passed[job.Needs] {
			continue
		}
		ok, err := g.steps(job.Steps, values{})
		if err != nil {
			return nil, fmt.Errorf("job %s: %w", name, err)
		}
		g.passed[name] = ok
	}
	return g, nil
}

// steps runs steps, enters their outputs into the values, and reports whether all passed.
func (g *githubRun) steps(steps []githubStep, v values) (bool, error) {
	failed := false
	for i, s := range steps {
		runs, err := v.condition(s.If, failed)
		if err == nil && runs {
			var ok bool
			ok, err = g.step(s, v)
			failed = failed || !ok
		}
		if err != nil {
			return false, fmt.Errorf("step %d (%s%s): %w", i+1, s.ID, s.Uses, err)
		}
		if s.ID != "" {
			v["steps."+s.ID] = "known"
		}
	}
	return !failed, nil
}

func (g *githubRun) step(s githubStep, v values) (bool, error) {
	with, err := v.expandAll(s.With)
	if err != nil {
		return false, err
	}
	set := func(name, value string) { v["steps."+s.ID+".outputs."+name] = value }
	action, _, _ := strings.Cut(s.Uses, "@")
	switch {
	case s.Uses == "":
		env, err := v.expandAll(s.Env)
		if err != nil {
			return false, err
		}
		return g.shell(s, env, set)
	case strings.HasPrefix(action, "./"):
		return g.composite(action, with, set)
	case action == "actions/checkout":
		return true, nil
	case action == "actions/setup-go":
		_, err := os.Stat(with["go-version-file"])
		return true, err
	case action == "actions/cache/restore":
		if saved, ok := g.runner.cache[with["key"]]; ok {
			set("cache-hit", "true")
			return true, copyAll(saved, filepath.Join(g.dir, with["path"]))
		}
		return true, nil
	case action == "actions/cache/save":
		saved := filepath.Join(g.runner.temp, fmt.Sprintf("cache-%d", len(g.runner.cache)))
		g.runner.cache[with["key"]] = saved
		g.runner.saves++
		return true, copyAll(filepath.Join(g.dir, with["path"]), saved)
	case action == "actions/upload-artifact":
		// A file that is missing is a warning by default.
		if _, err := os.Stat(filepath.Join(g.dir, with["path"])); err == nil {
			g.uploads = append(g.uploads, with["name"])
		}
		return true, nil
	case action == "actions/download-artifact":
		if !slices.Contains(g.uploads, with["name"]) {
			return false, fmt.Errorf("no artifact %q was uploaded", with["name"])
		}
		return true, nil
	}
	return false, fmt.Errorf("unknown action")
}

// composite runs a composite action of the checkout.
func (g *githubRun) composite(path string, with map[string]string, set func(name, value string)) (bool, error) {
	dir := filepath.Join(g.dir, path)
	data, err := os.ReadFile(filepath.Join(dir, "action.yml"))
	if err != nil {
		return false, err
	}
	var a githubAction
	if err := yaml.Unmarshal(data, &a); err != nil {
		return false, err
	}
	v := values{"github.action_path": dir}
	for name, input := range a.Inputs {
		value, given := with[name]
		if !given {
			value = input.Default
		}
		if input.Required && !given {
			return false, fmt.Errorf("input %s is required", name)
		}
		v["inputs."+name] = value
	}
	for name := range with {
		if _, known := a.Inputs[name]; !known {
			return false, fmt.Errorf("there is no input %s", name)
		}
	}
	ok, err := g.steps(a.Runs.Steps, v)
	if err != nil {
		return false, err
	}
	g.outputs = values{}
	for name, output := range a.Outputs {
		value, err := v.expand(output.Value, githubExpression)
		if err != nil {
			return false, err
		}
		g.outputs[name] = value
		set(name, value)
	}
	return ok, nil
}

// shell runs the commands of a step as GitHub does, and reads the outputs and the summary that
// it writes.
func (g *githubRun) shell(s githubStep, env map[string]string, set func(name, value string)) (bool, error) {
	args := []string{"--noprofile", "--norc", "-e"}
	if s.Shell == "bash" {
		args = append(args, "-o", "pipefail")
	}
	temp, err := os.MkdirTemp(g.runner.temp, "step-")
	if err != nil {
		return false, err
	}
	files := map[string]string{"GITHUB_OUTPUT": filepath.Join(temp, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(temp, "summary")}
	cmd := exec.Command("bash", append(args, "-c", s.Run)...)
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), "CI=true", "GITHUB_WORKSPACE="+g.dir, "RUNNER_TEMP="+temp)
	for name, file := range files {
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			return false, err
		}
		cmd.Env = append(cmd.Env, name+"="+file)
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	log, err := cmd.CombinedOutput()
	g.log.Write(log)
	exit, isExit := err.(*exec.ExitError)
	if err != nil && !isExit {
		return false, err
	}
	if isExit && g.status == 0 {
		g.status = exit.ExitCode()
	}
	summary, err := os.ReadFile(files["GITHUB_STEP_SUMMARY"])
	if err != nil {
		return false, err
	}
	g.summary += string(summary)
	outputs, err := os.ReadFile(files["GITHUB_OUTPUT"])
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(outputs)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			return false, fmt.Errorf("the output %q is not NAME=VALUE", line)
		}
		set(name, value)
	}
	return !isExit, nil
}

// Command ciexamples runs the examples of docs/ci.md: every ```sh block, and the shell steps
// of the GitHub and GitLab pipelines as these systems run them, in a repository as described
// on the page, with the embedded model. It then makes the artifact worse and expects the gate
// to fail.
package main

import (
	"encoding/xml"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"afmq/internal/demo"
)

const page = "docs/ci.md"

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", page, err)
		os.Exit(1)
	}
}

func run() error {
	begun := time.Now()
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	examples, err := extract(string(text))
	if err != nil {
		return err
	}
	root, err := os.MkdirTemp("", "afmq-ci-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	repository := filepath.Join(root, "repository")
	if err := prepare(repository); err != nil {
		return err
	}
	// The first block records the baseline, which then becomes part of the repository.
	first := examples[0]
	if first.kind != "sh" {
		return fmt.Errorf("the first example is of kind %s, want sh, which records the baseline", first.kind)
	}
	if err := first.run(repository); err != nil {
		return err
	}
	for i, e := range examples[1:] {
		dir := filepath.Join(root, fmt.Sprintf("checkout-%d", i))
		if err := checkOut(repository, dir, e.kind == "sh"); err != nil {
			return err
		}
		if err := e.run(dir); err != nil {
			return err
		}
		if err := e.checkOutputs(dir, 0); err != nil {
			return err
		}
	}
	if err := worse(examples, repository, filepath.Join(root, "worse")); err != nil {
		return err
	}
	fmt.Printf("%s: %d examples run in %.0f s\n", page, len(examples), time.Since(begun).Seconds())
	return nil
}

// worse runs the GitHub pipeline with fewer bits, and expects its gate to fail and to write
// its outputs.
func worse(examples []example, repository, dir string) error {
	for i, e := range examples {
		if e.kind != "GitHub" {
			continue
		}
		dir := fmt.Sprintf("%s-%d", dir, i)
		if err := checkOut(repository, dir, false); err != nil {
			return err
		}
		changed := e
		changed.steps = nil
		for _, s := range e.steps {
			s.script = strings.ReplaceAll(s.script, "--bpw 3.5", "--bpw 2.5")
			changed.steps = append(changed.steps, s)
		}
		err := changed.run(dir)
		failed, ok := err.(*stepError)
		if !ok || failed.code != 5 || !strings.Contains(failed.script, "afmq gate") {
			return fmt.Errorf("%s with fewer bits: %v; expected the gate to fail", e.kind, err)
		}
		if err := e.checkOutputs(dir, 1); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the repository described on the page.
func prepare(dir string) error {
	for _, sub := range []string{"text", "tools", "models"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := demo.Extract(filepath.Join(dir, "models/my-model")); err != nil {
		return err
	}
	source, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := os.Symlink(source, filepath.Join(dir, "tools/afmq")); err != nil {
		return err
	}
	if err := writeTexts(filepath.Join(dir, "text/calib.jsonl"), 1, 10); err != nil {
		return err
	}
	return writeTexts(filepath.Join(dir, "text/held-out.jsonl"), 2, 24)
}

// checkOut copies the committed files, or all files.
func checkOut(repository, dir string, all bool) error {
	names := []string{"models", "text", "baseline.json"}
	if all {
		names = append(names, "bin", "build")
	}
	for _, name := range names {
		if err := copyAll(filepath.Join(repository, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "tools"), 0o755); err != nil {
		return err
	}
	link, err := os.Readlink(filepath.Join(repository, "tools/afmq"))
	if err != nil {
		return err
	}
	return os.Symlink(link, filepath.Join(dir, "tools/afmq"))
}

func copyAll(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, info.Mode().Perm())
	})
}

// stepError is a step that failed.
type stepError struct {
	script string
	code   int
	output string
}

func (e *stepError) Error() string {
	return fmt.Sprintf("exit code %d of\n%s\n%s", e.code, e.script, e.output)
}

// run runs the steps in dir like the CI system.
func (e *example) run(dir string) error {
	for _, s := range e.steps {
		args := []string{"--noprofile", "--norc", "-e"}
		if s.pipefail {
			args = append(args, "-o", "pipefail")
		}
		cmd := exec.Command("bash", append(args, "-c", s.script)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CI=true", "CI_PROJECT_DIR="+dir, "GITHUB_WORKSPACE="+dir, "GITHUB_STEP_SUMMARY="+filepath.Join(dir, "summary.md"))
		output, err := cmd.CombinedOutput()
		if exit, ok := err.(*exec.ExitError); ok {
			return &stepError{s.script, exit.ExitCode(), string(output)}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkOutputs checks that the files that a pipeline keeps exist, and the number of failures in
// its JUnit report.
func (e *example) checkOutputs(dir string, failures int) error {
	for _, path := range e.keeps {
		if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
			return fmt.Errorf("%s keeps a file that does not exist: %v", e.kind, err)
		}
		if filepath.Ext(path) != ".xml" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		var report struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
		}
		if err := xml.Unmarshal(data, &report); err != nil {
			return fmt.Errorf("%s: %v", path, err)
		}
		if report.Tests != 3 || min(report.Failures, 1) != failures {
			return fmt.Errorf("%s of %s: %d of %d tests failed", path, e.kind, report.Failures, report.Tests)
		}
	}
	return nil
}

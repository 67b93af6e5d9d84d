// Command ciexamples runs the examples of docs/ci.md with the embedded model: the shell blocks,
// the GitHub workflow with the composite action .github/actions/afmq-gate, and the GitLab pipeline
// with the component templates/afmq-gate.yml. It runs their shell commands as these systems do,
// in checkouts of a repository as described on the page, and imitates the rest: inputs, outputs,
// conditions, summaries, caches and artifacts.
//
// It expects of each pipeline that an artifact that is no worse passes, that a worse one and an
// inconclusive gate fail and stop what follows, and that nothing is compressed twice. It also
// checks the files against the schemas of GitHub and GitLab, and the workflow with actionlint.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	page         = "docs/ci.md"
	actionFile   = ".github/actions/afmq-gate/action.yml"
	templateFile = "templates/afmq-gate.yml"
)

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
	e, err := extract(string(text))
	if err != nil {
		return err
	}
	root, err := os.MkdirTemp("", "afmq-ci-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	t := &trial{root: root, repository: filepath.Join(root, "repository")}
	if err := prepare(t.repository); err != nil {
		return err
	}
	if err := lint(e, t.repository, root); err != nil {
		return err
	}
	// The first block records the baseline, which then becomes part of the repository.
	if err := shell(e.baseline, t.repository); err != nil {
		return err
	}
	dir, err := t.checkOut(true)
	if err != nil {
		return err
	}
	if err := shell(e.custom, dir); err != nil {
		return err
	}
	rise, err := t.github(e.workflow)
	if err != nil {
		return fmt.Errorf("GitHub: %w", err)
	}
	if err := t.gitlab(e.pipeline, rise); err != nil {
		return fmt.Errorf("GitLab: %w", err)
	}
	fmt.Printf("%s: the examples run in %.0f s\n", page, time.Since(begun).Seconds())
	return nil
}

// trial is the directory of all checkouts.
type trial struct {
	root, repository string
	checkouts        int
}

// checkOut returns a new checkout: of the committed files, or of all files.
func (t *trial) checkOut(all bool) (string, error) {
	t.checkouts++
	dir := filepath.Join(t.root, fmt.Sprintf("checkout-%d", t.checkouts))
	return dir, checkOut(t.repository, dir, all)
}

// shell runs a block of the page.
func shell(script, dir string) error {
	cmd := exec.Command("bash", "--noprofile", "--norc", "-e", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v of\n%s\n%s", err, script, out)
	}
	return nil
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// schemaChecker is the program that scripts/test-ci-examples installs.
const schemaChecker = "build/check-jsonschema/bin/check-jsonschema"

// lint checks the files against the published schemas of GitHub and GitLab, and the workflow
// with actionlint, which knows the inputs and outputs of the action.
func lint(e examples, repository, temp string) error {
	action, err := os.ReadFile(actionFile)
	if err != nil {
		return err
	}
	template, err := os.ReadFile(templateFile)
	if err != nil {
		return err
	}
	for _, x := range []struct {
		name, schema string
		data         []byte
	}{
		{actionFile, "vendor.github-actions", action},
		{templateFile, "vendor.gitlab-ci", template},
		{page + ": .gitlab-ci.yml", "vendor.gitlab-ci", []byte(e.pipeline)},
	} {
		if err := validate(x.data, x.schema, temp); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
	}
	if err := noExpressions(action, template); err != nil {
		return err
	}
	return actionlint(e.workflow, repository, temp)
}

// validate checks every document of a YAML file against a schema that check-jsonschema has built
// in.
func validate(data []byte, schema, temp string) error {
	docs, err := documents(data)
	if err != nil {
		return err
	}
	for _, doc := range docs {
		text, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		file := filepath.Join(temp, "document.json")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
		if out, err := exec.Command(schemaChecker, "--builtin-schema", schema, file).CombinedOutput(); err != nil {
			return fmt.Errorf("%v\n%s", err, out)
		}
	}
	return nil
}

// noExpressions checks that inputs reach shell commands as environment variables: an expression
// in a command would make its value part of the program.
func noExpressions(action, template []byte) error {
	var a githubAction
	if err := yaml.Unmarshal(action, &a); err != nil {
		return err
	}
	for _, s := range a.Runs.Steps {
		if githubExpression.MatchString(s.Run) {
			return fmt.Errorf("%s: a command has an expression: %s", actionFile, s.Run)
		}
	}
	_, script, _ := strings.Cut(string(template), "\n  script:\n")
	script, _, _ = strings.Cut(script, "\n  artifacts:\n")
	if script == "" || gitlabExpression.MatchString(script) {
		return fmt.Errorf("%s: the script is empty or has an expression", templateFile)
	}
	return nil
}

// actionlint runs the linter on the workflow in the repository.
func actionlint(workflow, repository, temp string) error {
	program := filepath.Join(temp, "actionlint")
	build := exec.Command("go", "build", "-C", "scripts/actionlint", "-o", program, "github.com/rhysd/actionlint/cmd/actionlint")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building actionlint: %v\n%s", err, out)
	}
	file := filepath.Join(repository, ".github/workflows/model.yml")
	for _, dir := range []string{filepath.Dir(file), filepath.Join(repository, ".git")} { // .git marks the root
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(file, []byte(workflow), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(program, "-no-color", "-shellcheck=", "-pyflakes=", file)
	cmd.Dir = repository
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("actionlint: %v\n%s", err, out)
	}
	return nil
}

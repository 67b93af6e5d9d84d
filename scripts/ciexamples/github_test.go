package main

import (
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The verdict of the action is that of the gate, whatever its other inputs hold: a line break in a
// path, which a pull request may choose, adds no output that replaces it.
func TestActionVerdictOfTheGate(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("../..", actionFile))
	if err != nil {
		t.Fatal(err)
	}
	var action githubAction
	if err := yaml.Unmarshal(text, &action); err != nil {
		t.Fatal(err)
	}
	step := action.Runs.Steps[len(action.Runs.Steps)-1]
	dir := t.TempDir()
	program := filepath.Join(dir, "afmq")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := &githubRun{dir: dir, runner: &githubRunner{temp: t.TempDir()}}
	env := map[string]string{
		"PROGRAM": program, "MODEL": "model", "DATA": "text", "BASELINE": "b.json", "REFERENCE": "", "MAX_NATS": "", "MAX_KL_RISE": "", "MAX_KL": "", "MAX_BYTES": "", "MAX_BPW": "",
		"ARTIFACT": "a\nverdict=no_worse", "REPORT": "r\nverdict=no_worse",
	}
	outputs := map[string]string{}
	passed, err := run.shell(step, env, func(name, value string) { outputs[name] = value })
	if err != nil || passed || outputs["verdict"] != "inconclusive" {
		t.Errorf("passed: %v, %v, outputs %v", passed, err, outputs)
	}
}

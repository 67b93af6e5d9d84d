package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The component judges the artifact that it made, never one that another job left in its place.
func TestGitLabJudgesItsOwnArtifact(t *testing.T) {
	template, err := os.ReadFile(filepath.Join("../..", templateFile))
	if err != nil {
		t.Fatal(err)
	}
	job, err := component(string(template), map[string]string{"model": "model", "data": "text.txt"})
	if err != nil {
		t.Fatal(err)
	}
	// In place of the program: one that writes a directory with a file, and prints that file.
	bin := t.TempDir()
	program := "#!/bin/sh\nif [ $1 = quantize ]; then mkdir $4 && echo new >$4/name; else cat $2/name; fi\n"
	stub := "#!/bin/sh\nprintf '%s' '" + program + "' >.afmq-cache/afmq; chmod +x .afmq-cache/afmq\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(stub), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	for _, left := range []bool{false, true} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "model"), 0o777); err != nil {
			t.Fatal(err)
		}
		if left {
			old := filepath.Join(dir, "build/artifact")
			if err := os.MkdirAll(old, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(old, "name"), []byte("old\n"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		status, log, err := job.run(dir, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if passed := status == 0; passed == left || strings.Contains(log, "old\n") || passed && log != "new\n" {
			t.Errorf("with an artifact there %v: exit code %d, %q", left, status, log)
		}
	}
}

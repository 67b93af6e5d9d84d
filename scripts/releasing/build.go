package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// commit is the commit that is checked out.
type commit struct {
	hash string
	when time.Time
}

// cleanCommit returns the commit that is checked out, and an error if the working tree
// differs from it.
func cleanCommit() (commit, error) {
	changes, err := output("git", "status", "--porcelain")
	if err != nil {
		return commit{}, err
	}
	if first, _, _ := strings.Cut(string(changes), "\n"); first != "" {
		return commit{}, fmt.Errorf("the tree is dirty (%s); commit or remove the changes", strings.TrimSpace(first))
	}
	out, err := output("git", "log", "-1", "--format=%H %ct")
	if err != nil {
		return commit{}, err
	}
	hash, when, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	seconds, err := strconv.ParseInt(when, 10, 64)
	return commit{hash, time.Unix(seconds, 0).UTC()}, err
}

// build builds the program for a target, "" for this machine. It sets every environment
// variable that could affect the result.
func build(path, version, target string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+version, "-o", path, "./cmd/afmq")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off",
		"GOAMD64=v1", "GOARM64=v8.0")
	if goos, goarch, ok := strings.Cut(target, "/"); ok {
		cmd.Env = append(cmd.Env, "GOOS="+goos, "GOARCH="+goarch)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building for %q: %w: %s", target, err, bytes.TrimSpace(out))
	}
	return nil
}

// output runs a command and returns its output.
func output(name string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

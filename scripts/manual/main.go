// Command manual generates docs/commands.md from the help of the program; `go generate
// ./cmd/afmq` runs it. scripts/release generates the man pages from the same help.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"afmq/internal/manual"
)

func main() {
	file := flag.String("markdown", "", "file to write")
	flag.Parse()
	if err := run(*file); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	dir, err := os.MkdirTemp("", "afmq-manual")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "afmq")
	build := exec.Command("go", "build", "-o", program, "afmq/cmd/afmq")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building afmq: %w", err)
	}
	pages, err := manual.Read(manual.Program(program))
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(manual.Markdown(pages)), 0o644)
}

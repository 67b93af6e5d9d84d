// Command manual writes what the program's help says as one page of Markdown, which is
// docs/commands.md; `go generate ./cmd/afmq` runs it. The man pages are made from the same
// help by scripts/release.
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

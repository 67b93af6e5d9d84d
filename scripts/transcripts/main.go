// Command transcripts runs the commands that Markdown pages show with their output, and
// compares the outputs with the pages. With -update it writes the present outputs into the
// pages.
//
//	go run ./scripts/transcripts [-update] [-program FILE] [-dir DIR] [PAGE...]
//
// Without arguments it takes all pages that have transcripts. A transcript is a block of code,
// indented by four spaces or fenced as console, in which commands begin with "$ "; a command
// that ends in a backslash continues on the next line. The lines up to the next command are its
// output, standard error included. A line "..." stands for any number of lines.
//
// All commands run in one shell in an empty directory, so that a page finds the files that an
// earlier command wrote, and $? is the exit code of the command before. A command that occurred
// before, on the same page or on another, is not run again: its output is that of the first
// time. Each page therefore has all commands that its files come from, and can be checked alone.
//
// Outputs are compared exactly, with four exceptions that differ from run to run: times, speeds,
// peak memory and progress messages, which --quiet silences. In f32 all processors with vector
// instructions (AVX2, AVX-512, AMX, NEON) give the same bits, so hashes and figures are equal to
// the last digit; eval-perplexity and generate must name that arithmetic with --compute. Plain Go
// agrees with them to six digits, which is enough to change a sampled token of the demo's text,
// and so all that follows. On a machine that has no other kernels nothing is compared.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// pages are the pages with transcripts.
var pages = []string{"docs/quickstart.md", "README.md", "docs/quality.md", "docs/recovery.md", "docs/cluster.md", "docs/ci.md", "scripts/releasing/archive.md"}

type options struct {
	update  bool
	program string // afmq; built from the sources where empty
	dir     string // to run in; a temporary directory where empty
}

func main() {
	var o options
	flag.BoolVar(&o.update, "update", false, "write the present outputs into the pages")
	flag.StringVar(&o.program, "program", "", "the afmq to run; built from ./cmd/afmq by default")
	flag.StringVar(&o.dir, "dir", "", "directory to run in, kept; a temporary one by default")
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = pages
	}
	if err := run(names, o); err != nil {
		fmt.Fprintln(os.Stderr, "transcripts:", err)
		os.Exit(1)
	}
}

func run(names []string, o options) error {
	begun := time.Now()
	var list []*page
	var commands []*command
	for _, name := range names {
		p, err := readPage(name)
		if err != nil {
			return err
		}
		list = append(list, p)
		commands = append(commands, p.commands...)
	}
	temporary, err := os.MkdirTemp("", "afmq-transcripts-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := o.complete(temporary); err != nil {
		return err
	}
	if err := checkKernels(o.program); err != nil {
		return err
	}
	ran, err := execute(commands, o.program, o.dir)
	if err != nil {
		return err
	}
	for _, c := range commands {
		if c.unpinned() {
			return fmt.Errorf("%s:%d: the figures depend on the machine; add --compute f32", c.page, c.line)
		}
	}
	if o.update {
		for _, p := range list {
			if err := p.update(os.Stdout); err != nil {
				return err
			}
		}
		return nil
	}
	failed := 0
	for _, c := range commands {
		if !match(c.shown, c.output) {
			failed++
			fmt.Fprintf(os.Stderr, "%s:%d: the output differs; it is now\n\n    $ %s\n%s\n", c.page, c.line, c.text, indent(c.output))
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d outputs differ; scripts/test-transcripts -update writes the present ones into the pages", failed, len(commands))
	}
	fmt.Printf("%d commands on %d pages checked, %d of them run, in %.0f s\n", len(commands), len(list), ran, time.Since(begun).Seconds())
	return nil
}

// complete builds the program and makes the directory where the options name none.
func (o *options) complete(temporary string) error {
	if o.dir == "" {
		o.dir = filepath.Join(temporary, "work")
		if err := os.Mkdir(o.dir, 0o755); err != nil {
			return err
		}
	}
	if o.program == "" {
		o.program = filepath.Join(temporary, "afmq")
		if out, err := exec.Command("go", "build", "-o", o.program, "./cmd/afmq").CombinedOutput(); err != nil {
			return fmt.Errorf("building afmq: %v\n%s", err, out)
		}
	}
	var err error
	o.program, err = filepath.Abs(o.program)
	return err
}

// checkKernels returns an error on a machine whose figures are not those of the pages.
func checkKernels(program string) error {
	out, err := exec.Command(program, "version", "--json").Output()
	if err != nil {
		return fmt.Errorf("%s version: %w", program, err)
	}
	if bytes.Contains(out, []byte(`"kernels": "generic"`)) {
		return errors.New("the kernels of this machine are generic; the pages have the figures of the vector kernels")
	}
	return nil
}

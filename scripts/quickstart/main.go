// Command quickstart runs the commands of docs/quickstart.md in one shell, in an empty
// directory, and compares their output with the page. Times, speeds and peak memory may
// differ; a line "..." on the page stands for any number of lines.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const page = "docs/quickstart.md"

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
	commands := parse(string(text))
	if len(commands) == 0 {
		return errors.New("no commands found")
	}
	work, err := os.MkdirTemp("", "afmq-quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	afmq := filepath.Join(work, "afmq")
	if out, err := exec.Command("go", "build", "-o", afmq, "./cmd/afmq").CombinedOutput(); err != nil {
		return fmt.Errorf("building afmq: %v\n%s", err, out)
	}
	outputs, err := execute(commands, afmq, work)
	if err != nil {
		return err
	}
	failed := 0
	for i, c := range commands {
		if !match(c.want, outputs[i]) {
			failed++
			fmt.Fprintf(os.Stderr, "line %d: the output differs; it is now\n\n    $ %s\n%s\n", c.line, c.text, indent(outputs[i]))
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d outputs differ", failed, len(commands))
	}
	fmt.Printf("%s: %d commands checked in %.0f s\n", page, len(commands), time.Since(begun).Seconds())
	return nil
}

// separator ends the output of a command.
const separator = "-- end of the output of a command --"

// execute runs the commands in one bash, so that `$?` is the exit code of the command before,
// and returns the lines of output of each, standard error included.
func execute(commands []command, afmq, dir string) ([][]string, error) {
	var script strings.Builder
	fmt.Fprintf(&script, "exec 2>&1\nafmq() { %q --quiet \"$@\"; }\n", afmq)
	for _, c := range commands {
		fmt.Fprintf(&script, "%s\nstatus=$?; echo %q; (exit $status)\n", c.text, separator)
	}
	script.WriteString("exit 0\n")
	cmd := exec.Command("bash", "--noprofile", "--norc", "-c", script.String())
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("bash: %v\n%s", err, out)
	}
	parts := strings.Split(string(out), separator+"\n")
	if len(parts) != len(commands)+1 {
		return nil, fmt.Errorf("%d outputs of %d commands:\n%s", len(parts)-1, len(commands), out)
	}
	outputs := make([][]string, len(commands))
	for i := range outputs {
		outputs[i] = trim(strings.Split(parts[i], "\n"))
	}
	return outputs, nil
}

func indent(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(strings.TrimRight("    "+line, " ") + "\n")
	}
	return b.String()
}

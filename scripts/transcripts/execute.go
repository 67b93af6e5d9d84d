package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// separator and an exit code end the output of a command.
const separator = "-- end of the output of a command --"

// execute runs the commands in one bash in dir and sets their outputs and exit codes. It
// returns the number of commands run: one that occurred before, and does not ask for the exit
// code of its predecessor, takes the output of the first time.
func execute(commands []*command, program, dir string) (int, error) {
	var script strings.Builder
	// Both ways to call the program; without progress.
	script.WriteString("exec 2>&1\nafmq() { \"$PROGRAM\" --quiet \"$@\"; }\n./afmq() { afmq \"$@\"; }\n")
	first := map[string]int{} // text -> index of the command that runs it
	source := make([]int, len(commands))
	ran := 0
	for i, c := range commands {
		text := strings.TrimPrefix(c.text, "./")
		earlier, known := first[text]
		if known && !strings.Contains(c.text, "$?") {
			source[i] = earlier
			fmt.Fprintf(&script, "(exit $status_%d)\n", earlier)
			continue
		}
		first[text], source[i] = i, i
		ran++
		fmt.Fprintf(&script, "%s\nstatus_%d=$?; echo %q $status_%[2]d; (exit $status_%[2]d)\n", c.text, i, separator)
	}
	script.WriteString("exit 0\n")
	cmd := exec.Command("bash", "--noprofile", "--norc", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PROGRAM="+program, "LC_ALL=C.UTF-8", "TERM=dumb", "COLUMNS=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("bash: %v\n%s", err, out)
	}
	parts := strings.Split(string(out), separator)
	if len(parts) != ran+1 {
		return 0, fmt.Errorf("%d outputs of %d commands:\n%s", len(parts)-1, ran, out)
	}
	k := 0
	for i, c := range commands {
		if source[i] != i {
			c.output, c.status = commands[source[i]].output, commands[source[i]].status
			continue
		}
		text := parts[k]
		if k > 0 { // after the exit code of the command before
			_, text, _ = strings.Cut(text, "\n")
		}
		code, _, _ := strings.Cut(strings.TrimPrefix(parts[k+1], " "), "\n")
		if c.status, err = strconv.Atoi(code); err != nil {
			return 0, fmt.Errorf("%s:%d: exit code: %w", c.page, c.line, err)
		}
		c.output = trim(strings.Split(text, "\n"))
		k++
	}
	return ran, nil
}

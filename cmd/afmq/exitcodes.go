package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"afmq/pkg/fault"
)

// exitCode is one exit code: its number, the name that an error object carries, what it
// means and what it leaves on disk.
type exitCode struct {
	Exit    int    `json:"exit"`
	Code    string `json:"code"`
	Meaning string `json:"meaning"`
	Leaves  string `json:"leaves"`
}

// interruptedCode is the name of an end by a signal; its exit codes are the shell's.
const interruptedCode = "interrupted"

// exitTable lists every exit code. It is the only place where kinds of errors and numbers
// meet; the help topic, its JSON and docs/exit-codes.md are made from it.
var exitTable = []exitCode{
	{0, "done", "done", "the output, whole"},
	{1, fault.Unexpected.String(), "a bug or a failing machine", "what the same command continues from, if it saved anything"},
	{2, fault.Usage.String(), "the command line is wrong", "nothing"},
	{3, fault.Input.String(), "a file cannot be used; the message names it and says what is wrong where", "nothing"},
	{4, fault.Infeasible.String(), "nothing can satisfy the request", "nothing"},
	{5, fault.Gate.String(), "a limit such as --max-kl is exceeded, or --exit-code found a difference", "nothing; the result is printed"},
	{6, fault.Output.String(), "the output cannot be written: not empty, read-only, no space", "what the same command continues from, if it saved anything"},
	{7, fault.Inconclusive.String(), "the text is too short to tell whether a limit is kept", "nothing; the result is printed"},
	{130, interruptedCode, "interrupted (SIGINT)", "what the same command continues from, if it saved anything"},
	{143, interruptedCode, "terminated (SIGTERM)", "what the same command continues from, if it saved anything"},
}

// exitOf returns the exit code of a kind of error.
func exitOf(k fault.Kind) int {
	for _, e := range exitTable {
		if e.Code == k.String() {
			return e.Exit
		}
	}
	panic("no exit code is listed for " + k.String())
}

type exitCodesObject struct {
	Schema    string     `json:"schema"`
	ExitCodes []exitCode `json:"exit_codes"`
}

// exitCodesTopic is the name of the topic.
const exitCodesTopic = "exit-codes"

func newExitCodesTopic() *cobra.Command {
	var long strings.Builder
	long.WriteString("Exit codes of every command, and the names that they have in JSON:\n\n")
	must(table(&long, func(w io.Writer) {
		for _, e := range exitTable {
			fmt.Fprintf(w, "%5d\t%s\t%s\n", e.Exit, e.Code, e.Meaning)
		}
	}))
	long.WriteString(`
Exits 2, 3 and 4 leave nothing behind, except directories that were missing above
the output. After 1, 6, 130, 143 or a crash, the same
command continues where it stopped; it keeps its state in .NAME.afmq next to
the output. With --json an error is one object with the keys "schema" and
"error" {code, exit, file, message, hint} on stdout; the line for people stays
on stderr. After 5 and 7 the result is printed instead.`)
	return &cobra.Command{Use: exitCodesTopic, Short: "What the exit codes mean", Long: long.String()}
}

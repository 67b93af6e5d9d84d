package main

import "github.com/spf13/cobra"

func newExitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes of every command:

    0  done
    1  unexpected: a bug or a failing machine
    2  usage: the command line is wrong
    3  bad input: a file cannot be used; the message names it and says what is wrong where
    4  infeasible: nothing can satisfy the request
    5  gate failed: a limit such as --max-kl was passed
    6  the output cannot be written: not empty, read-only, no space
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)

Exits 2, 3 and 4 leave nothing behind. After 1, 130, 143 or a crash, the same
command continues where it stopped; what it keeps for that lies in .NAME.afmq
beside the output. With --json an error is one object with the keys "schema" and
"error" {code, exit, file, message, hint} on stdout; the line for people stays
on stderr.`,
	}
}

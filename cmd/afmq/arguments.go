package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/fault"
)

// checkArguments returns an error that names every argument and required flag that is missing,
// or the first argument that the command does not take.
func checkArguments(cmd *cobra.Command, args []string) error {
	least, most := argumentCount(cmd)
	var missing []string
	for i := len(args); i < least; i++ {
		missing = append(missing, argumentName(cmd, i))
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Changed && slices.Contains(f.Annotations[cobra.BashCompOneRequiredFlag], "true") {
			value, _ := pflag.UnquoteUsage(f)
			missing = append(missing, "--"+f.Name+" "+value)
		}
	})
	var problems []string
	switch n := len(missing); n {
	case 0:
	case 1:
		problems = append(problems, fmt.Sprintf("%s is missing", missing[0]))
	default:
		problems = append(problems, fmt.Sprintf("%s and %s are missing", strings.Join(missing[:n-1], ", "), missing[n-1]))
	}
	if len(args) > most {
		problems = slices.Insert(problems, 0, fmt.Sprintf("unexpected argument %q", args[most]))
	}
	if len(problems) == 0 {
		return nil
	}
	return fault.Usagef("%s", strings.Join(problems, "; "))
}

// argumentCount returns the least and the largest number of positional arguments: those that
// the usage line names before its flags. One in brackets may be left out, and one with an ellipsis
// may be repeated.
func argumentCount(cmd *cobra.Command) (least, most int) {
	for _, word := range strings.Fields(cmd.Use)[1:] {
		switch {
		case strings.HasPrefix(word, "--"), strings.HasPrefix(word, "[--"):
			return least, most
		case !strings.HasPrefix(word, "["):
			least++
		}
		if strings.HasSuffix(word, "...") {
			return least, math.MaxInt
		}
		most++
	}
	return least, most
}

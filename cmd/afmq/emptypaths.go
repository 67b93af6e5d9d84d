package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/fault"
)

// pathFlags are the names that the help gives to the values of flags that are paths.
var pathFlags = []string{"DEVICE", "DIR", "FILE", "MODEL"}

// checkEmptyPaths returns a usage error for an empty argument, and for a flag that was given an
// empty path. Both come from unset variables of scripts; in a library's options an empty path
// means that there is none.
func checkEmptyPaths(cmd *cobra.Command, args []string) error {
	if cmd.Name() == cobra.ShellCompRequestCmd { // which completes an empty word
		return nil
	}
	if i := slices.Index(args, ""); i >= 0 {
		return fault.Usagef("the argument %s is empty", argumentName(cmd, i))
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if name, _ := pflag.UnquoteUsage(f); err == nil && slices.Contains(pathFlags, name) && hasEmpty(f.Value) {
			err = fault.Usagef("--%s is given an empty %s", f.Name, name)
		}
	})
	return err
}

// argumentName returns the name of positional argument i in the command's usage line, or its
// number if the line does not name it.
func argumentName(cmd *cobra.Command, i int) string {
	names := strings.Fields(cmd.Use)[1:]
	if len(names) > 0 && strings.HasSuffix(names[0], "...") {
		i = 0
	}
	if i < len(names) {
		if name := strings.TrimSuffix(strings.Trim(names[i], "[|]"), "..."); name != "" {
			return name
		}
	}
	return strconv.Itoa(i + 1)
}

func hasEmpty(v pflag.Value) bool {
	if list, ok := v.(pflag.SliceValue); ok {
		return slices.Contains(list.GetSlice(), "")
	}
	return v.String() == ""
}

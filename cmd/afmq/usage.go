package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/fault"
)

// flagError adds the flags that were probably meant to the error of an unknown one.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	near := nearFlags(cmd, unknown.GetSpecifiedName())
	if group := unknown.GetSpecifiedShortnames(); group != "" { // -calib instead of --calib
		name, _, _ := strings.Cut(group, "=")
		near = nil
		if cmd.Flag(name) != nil {
			near = []string{name}
		}
	}
	if len(near) == 0 {
		return err
	}
	return fault.Usagef("%v", err).WithHint("did you mean --%s?", strings.Join(near, " or --"))
}

// nearFlags returns the flags of a command, the global ones included, whose names are near to
// name by cobra's measure for the names of commands.
func nearFlags(cmd *cobra.Command, name string) []string {
	names := &cobra.Command{SuggestionsMinimumDistance: 2}
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	}
	cmd.LocalFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return names.SuggestionsFor(name)
}

// usageHint returns the hint for an error of usage that has none: how the command is used.
func usageHint(cmd *cobra.Command) string {
	if cmd == nil || !cmd.HasParent() {
		return "`afmq help` lists commands, `afmq COMMAND --help` their flags"
	}
	help := "`afmq help " + cmd.Name() + "` lists the flags"
	if example := exampleOf(cmd); example != "" {
		return example + "; " + help
	}
	return cmd.UseLine() + "; " + help
}

// exampleOf returns the first command line of a command's examples, "" without one.
func exampleOf(cmd *cobra.Command) string {
	first, _, _ := strings.Cut(strings.ReplaceAll(cmd.Example, "\\\n", " "), "\n")
	return strings.Join(strings.Fields(first), " ")
}

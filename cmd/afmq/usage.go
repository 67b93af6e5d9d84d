package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/fault"
)

// flagError adds the flags that were probably meant to the error of an unknown one. A flag
// after an unknown command is not that command's mistake: the command is.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	if words := cmd.Flags().Args(); !cmd.HasParent() && len(words) > 0 {
		return unknownCommand(cmd, words[0])
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

// unknownCommand returns the error for a word that is not a command, with the nearest one.
func unknownCommand(root *cobra.Command, word string) error {
	err := fault.Usagef("unknown command %q", word)
	if near := root.SuggestionsFor(word); len(near) > 0 {
		return err.WithHint("did you mean %q?", near[0])
	}
	return err
}

// nearFlags returns the flags of a command, the global ones included, that name probably stands
// for: those within one edit by cobra's measure for the names of commands, else those that name
// begins or ends with, such as --out for --output, else those within two edits.
func nearFlags(cmd *cobra.Command, name string) []string {
	names := &cobra.Command{SuggestionsMinimumDistance: 1}
	var within []string
	add := func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		if len(f.Name) >= 3 && strings.HasPrefix(name, f.Name) || strings.HasSuffix(name, "-"+f.Name) {
			within = append(within, f.Name)
		}
	}
	cmd.LocalFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	if near := names.SuggestionsFor(name); len(near) > 0 {
		return near
	}
	if len(within) > 0 {
		return within
	}
	names.SuggestionsMinimumDistance = 2
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

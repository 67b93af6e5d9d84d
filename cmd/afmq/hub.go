package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/model"
)

// modelArguments are the names of arguments that can be a model's name on the Hugging Face Hub.
var modelArguments = []string{"MODEL", "PATH", "ARTIFACT", "A", "B"}

// resolveHub replaces names of models on the Hugging Face Hub that are in its local cache by their
// directories. What exists as a path is one, and what is not in the cache stays as it is, for the error of
// the command.
func (a *app) resolveHub(cmd *cobra.Command, args []string) error {
	for i, arg := range args {
		if slices.Contains(modelArguments, argumentName(cmd, i)) {
			if dir := a.cached(arg); dir != "" {
				args[i] = dir
			}
		}
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if _, isList := f.Value.(pflag.SliceValue); isList || !slices.Contains(modelFlags, f.Name) {
			return
		}
		if dir := a.cached(f.Value.String()); dir != "" {
			err = errors.Join(err, f.Value.Set(dir))
		}
	})
	return err
}

// cached returns the directory of a model in the cache, and says so; "" for anything else.
func (a *app) cached(id string) string {
	if _, _, ok := model.SplitHubID(id); !ok {
		return ""
	}
	if _, err := os.Lstat(id); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	dir, err := model.HubSnapshot(id)
	if err != nil {
		return ""
	}
	if !a.quiet {
		fmt.Fprintf(a.stderr, "%s is %s\n", id, dir)
	}
	return dir
}

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/pkg/model"
	"afmq/pkg/sensitivity"
)

// modelFlags are the flags that name a model, as the first argument of a command does.
var modelFlags = []string{"reference", "teacher"}

// pathHint returns a hint for an input path of the command line that does not exist: the names
// beside it that are similar, or how to get a model that is named as on the Hugging Face Hub. It
// is "" for every other path.
func (a *app) pathHint(path string) string {
	if path == "" || a.command == nil {
		return ""
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	typed, isModel := slices.Contains(a.command.Flags().Args(), path), filepath.Ext(path) != ".json"
	a.command.Flags().Visit(func(f *pflag.Flag) {
		list, isList := f.Value.(pflag.SliceValue)
		if f.Value.String() == path || isList && slices.Contains(list.GetSlice(), path) {
			typed, isModel = true, slices.Contains(modelFlags, f.Name)
		}
	})
	if !typed {
		return ""
	}
	plain := strings.NewReplacer("-", "", "_", "").Replace(path)
	if strings.EqualFold(plain, sensitivity.BuiltinText) {
		if a.command.Flags().Changed("calib") {
			return "the text in this program is --calib " + sensitivity.BuiltinText
		}
		return "the text in this program is for --calib only; give a file"
	}
	dir, _ := filepath.Split(path)
	near := nearNames(filepath.Dir(path), filepath.Base(path))
	for i, name := range near {
		near[i] = dir + name
	}
	switch {
	case len(near) > 0:
		return "did you mean " + strings.Join(near, " or ") + "?"
	case isModel && model.HubDownload(path) != "":
		return "it is not in the cache of the Hugging Face Hub either; no command of afmq downloads a model, `" + model.HubDownload(path) + "` does"
	}
	return ""
}

// nearNames returns at most three names in dir that begin with name or are within two edits,
// one for a short name, by cobra's measure for the names of commands.
func nearNames(dir, name string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	names := &cobra.Command{SuggestionsMinimumDistance: 2}
	if len(name) < 5 {
		names.SuggestionsMinimumDistance = 1
	}
	for _, e := range entries {
		// cobra takes the first word of Use for the name.
		if !strings.Contains(e.Name(), " ") && (e.Name()[0] != '.' || name[0] == '.') {
			names.AddCommand(&cobra.Command{Use: e.Name(), Run: func(*cobra.Command, []string) {}})
		}
	}
	near := names.SuggestionsFor(name)
	return near[:min(len(near), 3)]
}

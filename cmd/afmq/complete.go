package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/cmd/afmq/internal/device"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/export/coreai"
	"afmq/pkg/export/gguf"
	"afmq/pkg/export/target"
	"afmq/pkg/ggml"
	"afmq/pkg/grid"
	"afmq/pkg/recovery"
	"afmq/pkg/sensitivity"
)

// flagValues are the values to complete of flags that take one of a few.
var flagValues = map[string][]string{
	"as":                gguf.Types,
	"bits":              {"2", "3", "4", "2,4", "2,3,4"},
	"bpw-of":            {"projections", string(sensitivity.OfModel)},
	"compensate":        {artifact.LossNorm, artifact.GPTQ, artifact.NoCompensation},
	"compute":           append(compute.Names(), "auto"),
	"format":            {textFormat, markdownFormat},
	"dtype":             {"f16", "f32"},
	"grid":              {"palette", "gguf"},
	"init":              {string(recovery.InitSVD), string(recovery.InitPlain), string(recovery.InitZero)},
	"launcher":          {torchrunLauncher, jobLauncher},
	"loss":              {string(recovery.LossKL), string(recovery.LossCE), string(recovery.LossMix)},
	"method":            {string(sensitivity.Fisher), string(sensitivity.KL), string(sensitivity.Hessian), string(sensitivity.Weight)},
	"protocol":          {string(eval.Chunk), string(eval.LlamaCpp), string(eval.Stride)},
	"reference-compute": append(compute.Names(), "auto"),
	"to":                exportTargets,
	"shape":             {string(coreai.Dynamic), string(coreai.Static)},
	"types":             blockTypes(),
	"tie":               {"qkv", "gate_up", "qkv,gate_up"},
}

// blockTypes are the names of ggml's types of blocks.
func blockTypes() (names []string) {
	for _, t := range ggml.Types() {
		if t.HasCodes() {
			names = append(names, string(artifact.GridForm(grid.Block{Type: t})))
		}
	}
	return names
}

// flagExtensions are the extensions of the files that a flag or an argument takes. Text has
// none: any file is text.
var flagExtensions = map[string][]string{
	"baseline":      {"json"},
	"chat-template": {"jinja"},
	"compare":       {"json"},
	"eval":          {"json"},
	"junit":         {"xml"},
	"plan":          {"json"},
	"scores":        {"json"},
	"scores.json":   {"json"},
}

// completer returns the completions of a word of the command line.
type completer func(word string) ([]string, cobra.ShellCompDirective)

// registerCompletions makes the shell complete every flag and argument of cmd and its
// subcommands from the name of its value: DIR and MODEL are directories, FILE is a file.
func registerCompletions(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.NoOptDefVal != "" || f.Name == "help" { // takes no value
			return
		}
		value, _ := pflag.UnquoteUsage(f)
		complete := completerOf(f.Name, value)
		must(cmd.RegisterFlagCompletionFunc(f.Name, func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
			return complete(word)
		}))
	})
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = completeArgument
	}
	for _, c := range cmd.Commands() {
		registerCompletions(c)
	}
}

// completeArgument completes a positional argument by its name in the usage line. Arguments
// that the command does not take complete to nothing.
func completeArgument(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if _, most := argumentCount(cmd); len(args) >= most {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	name := argumentName(cmd, len(args))
	if cmd.Name() == "devices" {
		name = "DEVICE"
	}
	return completerOf(name, name)(word)
}

// completerOf returns the completer of a flag or argument called name whose value is called
// value in the help.
func completerOf(name, value string) completer {
	if values, ok := flagValues[name]; ok {
		return oneOf(values, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
	}
	if extensions, ok := flagExtensions[name]; ok {
		return func(string) ([]string, cobra.ShellCompDirective) {
			return extensions, cobra.ShellCompDirectiveFilterFileExt
		}
	}
	if name == "calib" {
		return completeText
	}
	switch value {
	case "A", "B", "PATH": // also a GGUF file
		return func(string) ([]string, cobra.ShellCompDirective) {
			return []string{"gguf"}, cobra.ShellCompDirectiveFilterFileExt
		}
	case "ARTIFACT", "DIR", "MODEL":
		return func(string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
	case "[NAME=]DIR":
		return completeAdapter
	case "TARGET":
		return oneOf(target.Names(), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
	case "SYSTEM":
		return oneOf(target.OfExport("coreml"), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
	case "DEVICE":
		return oneOf(device.Names(), cobra.ShellCompDirectiveDefault) // or the file of a profile
	case "FILE", "ROW=FILE":
		return func(string) ([]string, cobra.ShellCompDirective) { return nil, cobra.ShellCompDirectiveDefault }
	}
	return func(string) ([]string, cobra.ShellCompDirective) { return nil, cobra.ShellCompDirectiveNoFileComp }
}

// completeText completes to a file, or to the word for the built-in text once it has begun: a
// shell offers no files beside other completions.
func completeText(word string) ([]string, cobra.ShellCompDirective) {
	if word != "" && strings.HasPrefix(sensitivity.BuiltinText, word) {
		return []string{sensitivity.BuiltinText}, cobra.ShellCompDirectiveDefault
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// oneOf completes to those of values that begin with the word.
func oneOf(values []string, directive cobra.ShellCompDirective) completer {
	return func(word string) ([]string, cobra.ShellCompDirective) {
		var fitting []string
		for _, v := range values {
			if strings.HasPrefix(v, word) {
				fitting = append(fitting, v)
			}
		}
		return fitting, directive
	}
}

// adapterConfig is the file that every adapter has.
const adapterConfig = "adapter_config.json"

// completeAdapter completes DIR or NAME=DIR to the directories of adapters, also to those in a
// directory that the word names in part, as the output of recover holds one for each rank.
// Other directories are offered as ways to one.
func completeAdapter(word string) ([]string, cobra.ShellCompDirective) {
	name, partial := "", word
	if before, after, named := strings.Cut(word, "="); named && !strings.ContainsAny(before, `/\`) {
		name, partial = before+"=", after
	}
	above, begin := filepath.Split(partial)
	var adapters, ways []string
	for _, dir := range subdirectories(above) {
		if !strings.HasPrefix(dir, begin) || strings.HasPrefix(dir, ".") && begin == "" {
			continue
		}
		path := above + dir
		if isAdapter(path) {
			adapters = append(adapters, name+path)
			continue
		}
		ways = append(ways, name+path+string(filepath.Separator))
		for _, below := range subdirectories(path) {
			if inside := path + string(filepath.Separator) + below; isAdapter(inside) {
				adapters = append(adapters, name+inside)
			}
		}
	}
	if len(adapters) > 0 {
		return adapters, cobra.ShellCompDirectiveNoFileComp
	}
	return ways, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func isAdapter(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, adapterConfig))
	return err == nil && info.Mode().IsRegular()
}

// subdirectories returns the names of the directories in dir, links to directories included;
// "" is the working directory.
func subdirectories(dir string) []string {
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// forCompletion prepares the flags of cmd and its subcommands for a request of a completion
// script. cobra would complete an empty word to the required flags, too, and the scripts take
// them for the directory in which to look; the names of values would keep their backquotes.
func forCompletion(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		delete(f.Annotations, cobra.BashCompOneRequiredFlag)
		_, f.Usage = pflag.UnquoteUsage(f)
	})
	for _, c := range cmd.Commands() {
		forCompletion(c)
	}
}

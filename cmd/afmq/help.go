package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/internal/manual"
	"afmq/pkg/fault"
)

//go:generate go run ../../scripts/manual -markdown ../../docs/commands.md

// helpObject is a command's help, from which package manual makes docs/commands.md and man
// pages.
type helpObject struct {
	Schema string `json:"schema"`
	manual.Page
}

// Groups under which help lists the commands, in the order in which they are used.
const (
	compressGroup = "compress"
	evaluateGroup = "evaluate"
	useGroup      = "use"
	programGroup  = "program"
)

var commandGroups = []*cobra.Group{
	{ID: compressGroup, Title: "Compress a model:"},
	{ID: evaluateGroup, Title: "Evaluate the result:"},
	{ID: useGroup, Title: "Use the result:"},
	{ID: programGroup, Title: "Other commands:"},
}

// setHelp makes help print JSON with --json. cobra's help function returns no error; run
// checks standard output for a failed write.
func (a *app) setHelp(root *cobra.Command) {
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", columns)))
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		switch {
		case !a.wantJSON:
			fmt.Fprint(a.stdout, helpText(cmd))
		case cmd.Name() == exitCodesTopic:
			_ = a.print(exitCodesObject{"afmq.exit-codes/v1", exitTable}, nil)
		default:
			_ = a.print(describeCommand(cmd), nil)
		}
	})
	root.SetHelpCommandGroupID(programGroup)
	root.SetHelpCommand(&cobra.Command{
		Use:     "help [COMMAND | TOPIC]",
		Short:   "Help about a command or a topic",
		GroupID: programGroup,
		Long:    "Prints the description, flags and examples of a command, or the text of a topic.",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, c := range cmd.Root().Commands() {
				if len(args) == 0 && !c.Hidden && strings.HasPrefix(c.Name(), word) {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				unknown := fault.Usagef("unknown command or topic %q", strings.Join(args, " "))
				if near := cmd.Root().SuggestionsFor(args[0]); len(near) > 0 {
					return unknown.WithHint("did you mean %q?", near[0])
				}
				return unknown.WithHint("`afmq help` lists commands and topics")
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	})
}

// helpText returns a command's help for people, at most [columns] wide.
func helpText(cmd *cobra.Command) string {
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	text := reflow(strings.TrimSpace(long)) + "\n"
	if cmd.Runnable() || cmd.HasSubCommands() {
		text += "\n" + cmd.UsageString()
	}
	return text
}

func describeCommand(cmd *cobra.Command) helpObject {
	o := helpObject{"afmq.help/v1", manual.Page{
		Command: cmd.CommandPath(), Short: cmd.Short, Long: cmd.Long, Example: cmd.Example,
		Commands: []manual.Entry{}, Flags: []manual.Flag{},
	}}
	if cmd.Runnable() {
		o.Usage = cmd.UseLine()
	}
	titles := map[string]string{}
	for _, g := range cmd.Groups() {
		titles[g.ID] = strings.TrimSuffix(g.Title, ":")
	}
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			o.Commands = append(o.Commands, manual.Entry{Name: c.Name(), Short: c.Short, Group: titles[c.GroupID]})
		}
	}
	global := cmd.Root().PersistentFlags()
	add := func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		h := manual.Flag{Name: f.Name, Shorthand: f.Shorthand, Type: f.Value.Type(), Default: f.DefValue}
		h.Value, h.Usage = pflag.UnquoteUsage(f)
		h.Global = global.Lookup(f.Name) == f
		if h.Type == "stringArray" {
			h.Default = ""
		}
		h.Required = slices.Contains(f.Annotations[cobra.BashCompOneRequiredFlag], "true")
		o.Flags = append(o.Flags, h)
	}
	cmd.LocalFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return o
}

type completionObject struct {
	Schema string `json:"schema"`
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

func newCompletionCommand(a *app) *cobra.Command {
	plain := false
	cmd := &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the completion script for a shell",
		Long: `Prints the completion script for a shell. To load it into the running shell:
  bash        source <(afmq completion bash)
  zsh         source <(afmq completion zsh)
  fish        afmq completion fish | source
  powershell  afmq completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var script strings.Builder
			if err := writeCompletion(cmd.Root(), &script, args[0], !plain); err != nil {
				return err
			}
			return a.print(completionObject{"afmq.completion/v1", args[0], script.String()}, func(w io.Writer) error {
				_, err := io.WriteString(w, script.String())
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&plain, "no-descriptions", false, "complete without descriptions")
	return cmd
}

func writeCompletion(root *cobra.Command, w io.Writer, shell string, describe bool) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(w, describe)
	case "zsh":
		if describe {
			return root.GenZshCompletion(w)
		}
		return root.GenZshCompletionNoDesc(w)
	case "fish":
		return root.GenFishCompletion(w, describe)
	case "powershell":
		if describe {
			return root.GenPowerShellCompletionWithDesc(w)
		}
		return root.GenPowerShellCompletion(w)
	}
	return fault.Usagef("unknown shell %q; supported are bash, zsh, fish and powershell", shell)
}

package main

import (
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/internal/fault"
)

type helpObject struct {
	Schema   string        `json:"schema"`
	Command  string        `json:"command"`
	Usage    string        `json:"usage"`
	Short    string        `json:"short"`
	Long     string        `json:"long"`
	Example  string        `json:"example,omitempty"`
	Commands []helpCommand `json:"commands"`
	Flags    []helpFlag    `json:"flags"`
}

type helpCommand struct {
	Name  string `json:"name"`
	Short string `json:"short"`
}

type helpFlag struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Type      string `json:"type"`
	Default   string `json:"default"`
	Required  bool   `json:"required"`
	Usage     string `json:"usage"`
}

// setHelp gives root a help that is JSON where that is wanted. cobra has no place for the
// error of printing it; run knows of what could not be printed.
func (a *app) setHelp(root *cobra.Command) {
	people := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		switch {
		case !a.wantJSON:
			people(cmd, args)
		case cmd.Name() == exitCodesTopic:
			_ = a.print(exitCodesObject{"afmq.exit-codes/v1", exitTable}, nil)
		default:
			_ = a.print(describeCommand(cmd), nil)
		}
	})
	root.SetHelpCommand(&cobra.Command{
		Use:   "help [COMMAND | TOPIC]",
		Short: "Help about a command or a topic",
		Long:  "Prints what a command does and which flags it has, or a topic.",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return fault.Usagef("there is no command or topic %q", strings.Join(args, " "))
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	})
}

func describeCommand(cmd *cobra.Command) helpObject {
	o := helpObject{
		Schema: "afmq.help/v1", Command: cmd.CommandPath(), Short: cmd.Short, Long: cmd.Long, Example: cmd.Example,
		Commands: []helpCommand{}, Flags: []helpFlag{},
	}
	if cmd.Runnable() {
		o.Usage = cmd.UseLine()
	}
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			o.Commands = append(o.Commands, helpCommand{c.Name(), c.Short})
		}
	}
	add := func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		h := helpFlag{Name: f.Name, Shorthand: f.Shorthand, Type: f.Value.Type(), Default: f.DefValue, Usage: f.Usage}
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
		Short: "Print a script that completes commands and flags in a shell",
		Long: `Prints the completion script for a shell. To load it in a running one:
  bash        source <(afmq completion bash)
  zsh         source <(afmq completion zsh)
  fish        afmq completion fish | source
  powershell  afmq completion powershell | Out-String | Invoke-Expression`,
		Args:      cobra.ExactArgs(1),
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
	return fault.Usagef("there is no completion for %q; there is for bash, zsh, fish and powershell", shell)
}

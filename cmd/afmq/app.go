package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"afmq/internal/memory"
	"afmq/internal/stage"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// version is the tool's version; the release build sets it.
var version = "0.1.0-dev"

// app holds what all commands share: the output streams and the global flags.
type app struct {
	stdout, stderr io.Writer
	wantJSON       bool // --json
	maybeJSON      bool // --json is among the arguments, which may have failed to parse
	quiet          bool
	threads        int
	memory         string // --memory
	memoryBytes    int64  // 0 for the default

	command  *cobra.Command // that was run, or whose usage is wrong; nil before it is known
	started  bool           // the command itself runs; an error before that is a usage error
	pool     *compute.Pool
	reporter *reporter

	interrupt atomic.Pointer[func()] // what SIGINT does instead of ending the run; see onInterrupt
}

func newRootCommand(a *app) *cobra.Command {
	showVersion := false
	root := &cobra.Command{
		Use:   "afmq",
		Short: "Compress language models to 2 to 4 bits per weight and measure the loss",
		Long: `afmq compresses a 16-bit Hugging Face checkpoint the way Apple compresses its
on-device foundation model: every 16 rows of a projection share a look-up table of
4 or 16 values (2 or 4 bits per weight; 1 to 8 on request), each row has an fp16
scale, and the embedding becomes 8-bit integers. Without row scales the tables are the
exact k-means optimum, rounded to fp16; with them, the default, they are close to it.
The built-in inference engine then measures what was lost.

MODEL is a Hugging Face directory (config.json, model.safetensors or shards,
tokenizer.json) of the Llama, Mistral, Qwen, SmolLM3, Granite, OLMo, Gemma or Phi
family in F16, BF16 or F32, or the name of one on the Hugging Face Hub, owner/name or
owner/name@revision, that ` + "`hf download`" + ` has put into the local cache.
ARTIFACT is the directory that ` + "`afmq quantize`" + ` makes from it. PATH is either.
A complete run, with one text to calibrate on and another to evaluate on:

  afmq quantize MODEL --out ARTIFACT --bpw 3.5 --calib calib.jsonl
  afmq verify ARTIFACT
  afmq eval-perplexity ARTIFACT --data held-out.txt --reference MODEL
  afmq recover ARTIFACT --teacher MODEL --data train.jsonl --out ADAPTERS
  afmq generate ARTIFACT --prompt "Once upon a time" --adapter ADAPTERS/rank-16

Text is a .jsonl file with one {"text": …} a line, or any other file as one text.
--calib builtin reads the calibration text in this program, for a first try.
Counts take the suffixes k, M and B (32k), sizes KB, MB, KiB, MiB and so on (400MB).
An interrupted command resumes when it is run again with the same arguments. An
existing --out is never overwritten. No command uses the network.

Results go to stdout, progress and errors to stderr. With --json, stdout holds one
versioned JSON object and nothing else. ` + "`afmq help exit-codes`" + ` lists the exit codes.`,
		Example: `  afmq demo                 # the complete run on a small built-in model
  afmq help quantize        # a command's flags and examples`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if showVersion {
				return a.printVersion()
			}
			return cmd.Help()
		},
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if err := checkEmptyPaths(cmd, args); err != nil {
				return err
			}
			if err := checkOut(cmd.Flags(), cmd.Name(), a.wantJSON); err != nil {
				return err
			}
			if err := a.start(); err != nil {
				return err
			}
			return a.resolveHub(cmd, args)
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(flagError)
	root.Flags().BoolVar(&showVersion, "version", false, "print the version, as the command version does; without a command only")
	flags := root.PersistentFlags()
	flags.BoolVar(&a.wantJSON, "json", false, "print one JSON object on stdout, for errors too")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print no progress, only results and errors")
	flags.IntVar(&a.threads, "threads", 0, "`N` worker threads (default: all cores)")
	flags.StringVar(&a.memory, "memory", "", "`SIZE` of the memory to use, such as 8GB (default: 70 % of the machine's)")
	cobra.EnableCommandSorting = false // keep the order in which they are used
	root.AddGroup(commandGroups...)
	for _, group := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{compressGroup, []*cobra.Command{newQuantizeCommand(a), newSensitivityCommand(a), newPlanCommand(a), newStatsCommand(a), newMergeCommand(a), newTuneCommand(a), newRecoverCommand(a)}},
		{evaluateGroup, []*cobra.Command{newInspectCommand(a), newVerifyCommand(a), newEvalCommand(a), newCompareCommand(a), newGateCommand(a), newDiffCommand(a), newReportCommand(a), newDevicesCommand(a)}},
		{useGroup, []*cobra.Command{newGenerateCommand(a), newChatCommand(a), newServeCommand(a), newDequantizeCommand(a), newExportCommand(a)}},
		{programGroup, []*cobra.Command{newDemoCommand(a), newVersionCommand(a), newCompletionCommand(a)}},
	} {
		for _, c := range group.commands {
			c.GroupID, c.Example, c.Args = group.id, foldExamples(c.Example), checkArguments
			root.AddCommand(c)
		}
	}
	root.AddCommand(newExitCodesTopic())
	root.CompletionOptions.DisableDefaultCmd = true
	explainNumbers(root)
	a.setHelp(root)
	registerCompletions(root)
	return root
}

// maxThreads is the largest value of --threads: more than any machine has cores.
const maxThreads = 4096

// start checks the global flags after the command line has been parsed.
func (a *app) start() error {
	if a.threads < 0 || a.threads > maxThreads {
		return fault.Usagef("--threads %d is not between 0 and %d", a.threads, maxThreads)
	}
	if err := compute.LevelError(); err != nil {
		return fault.Usagef("%v", err)
	}
	if err := a.limitMemory(); err != nil {
		return err
	}
	a.started = true
	a.reporter = newReporter(a.stderr, a.quiet)
	return nil
}

// heapShare is the share of --memory that the heap of Go may take; mapped files have the rest.
const heapShare = 0.875

// leastMemory is the least value of --memory; with less, small models would spend their time
// collecting garbage.
const leastMemory = 256 << 20

// limitMemory reads --memory and bounds the heap by it: without a bound, it grows to twice what is in
// use before it is collected. The environment variable GOMEMLIMIT has precedence.
func (a *app) limitMemory() error {
	if a.memory != "" {
		n, err := parseSize("memory", a.memory)
		if err != nil {
			return err
		}
		if n < leastMemory {
			return fault.Usagef("--memory %s is below 256 MiB", a.memory)
		}
		a.memoryBytes = n
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(heapShare * float64(memory.Budget(a.memoryBytes))))
	}
	return nil
}

// workers returns the pool that the command's work runs on.
func (a *app) workers() *compute.Pool {
	if a.pool == nil {
		a.pool = compute.NewPool(a.threads)
	}
	return a.pool
}

// warn prints warnings for people on standard error.
func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", w)
	}
}

func (a *app) progress() progress.Reporter { return a.reporter }

func (a *app) close() {
	if a.reporter != nil {
		a.reporter.close()
	}
	if a.pool != nil {
		a.pool.Close()
	}
}

// print writes the result of a command: the object as JSON, or what text prints.
func (a *app) print(object any, text func(w io.Writer) error) error {
	if a.reporter != nil { // nil while only help is printed
		a.reporter.Done()
	}
	if !a.wantJSON {
		return outputError(text(a.stdout))
	}
	return outputError(writeJSON(a.stdout, object))
}

// printFile writes the content of an output file to standard output, and what else the command
// has to say to standard error unless --quiet is given.
func (a *app) printFile(data []byte, text func(w io.Writer) error) error {
	a.reporter.Done()
	if text != nil && !a.quiet {
		if err := text(a.stderr); err != nil {
			return fault.Writing("standard error", err)
		}
	}
	_, err := a.stdout.Write(data)
	return outputError(err)
}

// outputError classifies an error of writing to standard output.
func outputError(err error) error {
	return fault.Writing("standard output", err)
}

// errorObject is the JSON form of an error.
type errorObject struct {
	Schema string      `json:"schema"`
	Error  errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string `json:"code"`
	Exit    int    `json:"exit"`
	File    string `json:"file,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// fail reports err and returns the exit code it ends with.
func (a *app) fail(err error) int {
	kind := fault.KindOf(err)
	if kind == fault.Unexpected && !a.started {
		kind = fault.Usage // cobra's own errors: flags, arguments
	}
	d := errorDetail{Code: kind.String(), Exit: exitOf(kind), Message: err.Error()}
	var fe *fault.Error
	if errors.As(err, &fe) {
		d.File, d.Hint = fe.File, fe.Hint
	}
	if kind == fault.Input && d.Hint == "" {
		d.Hint = a.pathHint(d.File)
	}
	if kind == fault.Usage && d.Hint == "" {
		d.Hint = usageHint(a.command)
	}
	return a.report(d)
}

// interrupted reports that a signal ended the run. The exit code is 128 plus the signal.
func (a *app) interrupted(sig caught) int {
	hint := "nothing was saved; the same command starts from the beginning"
	if kept := a.keptState(); kept != "" { // it has not come to the point where it reads the state
		hint = "this run saved nothing; " + kept + " has the state of an earlier run; run the same command again to continue"
	}
	if a.reporter != nil {
		if saved := a.reporter.lastSaved(); saved != "" {
			hint = "saved: " + saved + "; run the same command again to continue"
		}
	}
	return a.report(errorDetail{
		Code:    interruptedCode,
		Exit:    128 + int(sig.Signal),
		Message: "stopped by " + sig.Error(),
		Hint:    hint,
	})
}

// keptState returns the directory with the state of a run that has the output of this command, ""
// if there is none.
func (a *app) keptState() string {
	if a.command == nil {
		return ""
	}
	out := a.command.Flags().Lookup("out")
	if out == nil || out.Value.String() == "" {
		return ""
	}
	return stage.Kept(out.Value.String())
}

func (a *app) report(d errorDetail) int {
	if a.reporter != nil {
		a.reporter.Done()
	}
	fmt.Fprintf(a.stderr, "afmq: %s\n", d.Message)
	if d.Hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", d.Hint)
	}
	// A gate that did not pass has printed its result, which is the one object on stdout.
	judged := d.Code == fault.Gate.String() || d.Code == fault.Inconclusive.String()
	if (a.wantJSON || !a.started && a.maybeJSON) && !judged {
		// The error is on stderr already.
		_ = writeJSON(a.stdout, errorObject{Schema: "afmq.error/v1", Error: d})
	}
	return d.Exit
}

// rate returns n per second over the given time, 0 if no time passed.
func rate(n float64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return n / d.Seconds()
}

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"afmq/pkg/export/coreai"
	"afmq/pkg/export/coreml"
	"afmq/pkg/export/target"
	"afmq/pkg/fault"
)

// exportTargets are the values of --to.
var exportTargets = []string{"coreml", "coreai", "gguf", "mlx", "compressed-tensors"}

// exportFlags are the flags of export.
type exportFlags struct {
	to, out, target, shape, name, as string
	context, chunk, checkTokens      int
	checkData, reference             string
	adapterInputs, restart, noBuild  bool
	adapters                         adapterFlags
}

// exportOnly lists the flags of each target that not every target has.
var exportOnly = map[string][]string{
	"coreml":             {"ctx", "chunk", "target", "restart"},
	"coreai":             {"ctx", "shape", "name", "check-tokens", "check-data", "reference", "adapter-inputs", "skip-compile", "restart"},
	"gguf":               {"ctx", "as", "name"},
	"mlx":                {"ctx", "as", "restart"},
	"compressed-tensors": {"as", "restart"},
}

type coremlObject struct {
	Schema   string `json:"schema"`
	Artifact string `json:"artifact"`
	To       string `json:"to"`
	Out      string `json:"out"`
	*coreml.Result
}

type coreaiObject struct {
	Schema   string `json:"schema"`
	Artifact string `json:"artifact"`
	To       string `json:"to"`
	Out      string `json:"out"`
	*coreai.Result
}

func newExportCommand(a *app) *cobra.Command {
	var o exportFlags
	cmd := &cobra.Command{
		Use:   "export ARTIFACT --to TARGET --out PATH",
		Short: "Convert for Core ML, Core AI, llama.cpp, MLX or vLLM",
		Long: `Writes ARTIFACT for another runtime.

For Apple's runtimes, coreml and coreai, the palettes stay as they are: indices, tables and
row scales have the same bits in what is written, and afterwards the command reads it back
and compares them. Both runtimes compute in fp16 and have palettes of 1, 2, 3, 4, 6 and 8
bits; 5 and 7 are refused. docs/devices-apple.md says what has been verified.

--to coreml writes a model package for iOS 18, macOS 15 and later. It needs no Apple tools.
The program has two functions over the same weights: decode, for one token, and prefill, for
a chunk of them. Both take input_ids and position, the number of tokens in the caches, and
return the logits of every token. The key and value caches are states. Each --adapter adds
decode_NAME and prefill_NAME; - in a name becomes _. --target coreml-ios26 declares the versions
of iOS 26 and macOS 26; the operations are the same.

--to coreai writes a bundle for iOS, iPadOS and macOS 27: NAME.aimodel, the tokenizer and
metadata.json, as the runner of Apple's coreai-models expects them. The asset is compiled by
Apple's Python package coreai-core; AFMQ_PYTHON names the interpreter that has it. --shape
dynamic, for macOS, has the function main, and main_NAME for each --adapter; --shape static,
for iOS, has functions of fixed lengths for the Neural Engine. The command runs the program
in Core AI's reference runtime and compares its logits with afmq's own engine.

--to gguf writes a file for llama.cpp and the programs built on it, with the tokenizer and
the chat template. The blocks of an artifact of quantize --grid gguf are copied. GGUF has no
palettes: --as f16, bf16 or f32 writes the dequantized weights. Each --adapter becomes a file beside it, FILE-NAME.gguf, which llama.cpp loads as a
LoRA adapter. What llama.cpp does not have is refused by name. docs/gguf.md says what is
written and what has been verified.

--to mlx writes a directory for mlx-lm, from an artifact of quantize --grid affine: codes, scales
and biases are copied. Each --adapter becomes OUT/adapters/NAME, which mlx-lm's programs load as
an adapter path. What mlx-lm's model classes do not compute is refused by name (docs/mlx.md).

--to compressed-tensors writes a directory for vLLM and transformers, from an artifact of quantize
--grid symmetric, in the format pack-quantized. Each --adapter becomes OUT/adapters/NAME, in
PEFT's format (docs/compressed-tensors.md).

Both write everything dequantized with --as f16 or bf16, from any artifact.`,
		Example: `  afmq export my-4bit --to coreml --out my-4bit.mlpackage
  afmq export my-4bit --to coreml --adapter recovered/rank-16 --ctx 4096 --out my.mlpackage
  AFMQ_PYTHON=coreai/bin/python afmq export my-4bit --to coreai --out my-4bit
  AFMQ_PYTHON=coreai/bin/python afmq export my-4bit --to coreai --shape static --out my-ios
  afmq export my-q4k --to gguf --out my-q4k.gguf
  afmq export my-4bit --to gguf --as f16 --out my-f16.gguf --adapter chat=recovered/rank-16
  afmq export my-affine --to mlx --out my-mlx
  afmq export my-int4 --to compressed-tensors --out my-vllm --adapter chat=recovered/rank-16`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkExportFlags(cmd, o.to); err != nil {
				return err
			}
			switch o.to {
			case "coreml":
				return a.exportCoreML(cmd, args[0], &o)
			case "coreai":
				return a.exportCoreAI(cmd, args[0], &o)
			case "mlx":
				return a.exportMLX(cmd, args[0], &o)
			case "compressed-tensors":
				return a.exportCompressed(cmd, args[0], &o)
			}
			return a.exportGGUF(cmd, args[0], &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "`TARGET`: "+strings.Join(exportTargets, ", "))
	registerOut(f, &o.out, outNamed, "`PATH` to create: a directory, which must not exist or be empty, NAME.mlpackage for coreml; a new file, NAME.gguf, for gguf")
	f.IntVar(&o.context, "ctx", 0, "`N` positions, at most (default: max_position_embeddings, but at most 2048 for coreml, 8192 for the dynamic and 4096 for the static shape of coreai); not for compressed-tensors")
	f.StringVar(&o.target, "target", "", "coreml: oldest `SYSTEM` that opens the package: "+strings.Join(target.OfExport("coreml"), " or ")+" (default "+coreml.DefaultTarget+")")
	f.IntVar(&o.chunk, "chunk", 0, "coreml: `N` tokens in a call of prefill (default: min(64, --ctx))")
	f.StringVar(&o.shape, "shape", "dynamic", "coreai: `SHAPE` of the program, dynamic (macOS) or static (iOS)")
	f.StringVar(&o.name, "name", "", "coreai: `NAME` of the asset; gguf: of the model (default: the last element of --out)")
	f.StringVar(&o.as, "as", "", "gguf, mlx, compressed-tensors: write the weights as `TYPE` f16 or bf16, for gguf also f32, dequantized")
	f.IntVar(&o.checkTokens, "check-tokens", coreai.DefaultCheckTokens, "coreai: run the program on `N` tokens of the built-in text and compare its logits with the engine's; 0 for none")
	f.StringVar(&o.checkData, "check-data", "", "coreai: run the program on the text of `FILE` too and print its perplexity and its divergence from the engine")
	f.StringVar(&o.reference, "reference", "", "coreai: print the divergence from the checkpoint `MODEL` on --check-data too")
	f.BoolVar(&o.adapterInputs, "adapter-inputs", false, "coreai: add a function main_lora that takes an adapter as inputs, and adapters/NAME.safetensors with the values")
	f.BoolVar(&o.noBuild, "skip-compile", false, "coreai: write everything but the asset, and a directory build that compiles it on another machine")
	o.adapters.register(f)
	f.Lookup("adapter").Usage = "add the functions, for gguf the file, or for mlx and compressed-tensors the directory, of the adapter `[NAME=]DIR`; repeatable. NAME is the directory's by default"
	f.BoolVar(&o.restart, "restart", false, "discard what an interrupted run left")
	must(cmd.MarkFlagRequired("to"))
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

// checkExportFlags checks the target, and that no flag is set that it does not have.
func checkExportFlags(cmd *cobra.Command, to string) error {
	own, ok := exportOnly[to]
	if !ok {
		return fault.Usagef("--to %q: expected %s", to, strings.Join(exportTargets, ", "))
	}
	owners := map[string][]string{}
	for _, format := range exportTargets {
		for _, name := range exportOnly[format] {
			owners[name] = append(owners[name], format)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(owners)) {
		if !slices.Contains(own, name) && cmd.Flags().Changed(name) {
			return fault.Usagef("--%s belongs to --to %s", name, joinAnd(owners[name]))
		}
	}
	return nil
}

// joinAnd joins names as a sentence does.
func joinAnd(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func (a *app) exportCoreML(cmd *cobra.Command, dir string, o *exportFlags) error {
	opts := coreml.Options{
		Artifact: dir, Out: o.out, Target: o.target, Context: o.context, Chunk: o.chunk, Restart: o.restart, AllowUnbound: o.adapters.allowUnbound,
		Pool: a.workers(), Progress: a.progress(), ToolVersion: version,
	}
	list, err := o.adapters.adapters()
	if err != nil {
		return err
	}
	for _, x := range list {
		opts.Adapters = append(opts.Adapters, coreml.Adapter{Name: x.Name, Dir: x.Dir})
	}
	r, err := coreml.Export(cmd.Context(), opts)
	if err != nil {
		return err
	}
	object := coremlObject{"afmq.export/v1", dir, o.to, o.out, r}
	return a.print(object, func(w io.Writer) error { return printCoreML(w, object) })
}

func (a *app) exportCoreAI(cmd *cobra.Command, dir string, o *exportFlags) error {
	opts := coreai.Options{
		Artifact: dir, Out: o.out, Name: o.name, Shape: coreai.Shape(o.shape), Context: o.context, AdapterInputs: o.adapterInputs,
		Python: os.Getenv(coreai.PythonVariable), SkipCompile: o.noBuild, CheckTokens: o.checkTokens, CheckData: o.checkData,
		Reference: o.reference, Restart: o.restart, AllowUnbound: o.adapters.allowUnbound,
		Pool: a.workers(), Progress: a.progress(), ToolVersion: version,
	}
	switch {
	case o.checkTokens < 0:
		return fault.Usagef("--check-tokens %d must not be negative", o.checkTokens)
	case o.checkTokens == 0:
		opts.CheckTokens = -1
	}
	list, err := o.adapters.adapters()
	if err != nil {
		return err
	}
	for _, x := range list {
		opts.Adapters = append(opts.Adapters, coreai.Adapter{Name: x.Name, Dir: x.Dir})
	}
	r, err := coreai.Export(cmd.Context(), opts)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	object := coreaiObject{"afmq.export-coreai/v1", dir, o.to, o.out, r}
	return a.print(object, func(w io.Writer) error { return printCoreAI(w, object) })
}

func printCoreML(w io.Writer, o coremlObject) error {
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "functions\t%s\n", strings.Join(o.Functions, ", "))
		fmt.Fprintf(w, "target\t%s\n", o.Target)
		fmt.Fprintf(w, "context\t%d positions, %d tokens in a call of prefill\n", o.Context, o.Chunk)
		fmt.Fprintf(w, "size\t%s, %s of it weights\n", size(o.Bytes), size(o.WeightBytes))
		fmt.Fprintf(w, "read back\t%d palettes, equal bit for bit\n", o.Palettes)
		fmt.Fprintf(w, "content hash\t%s\n", o.ContentHash)
		fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", o.Seconds, size(o.PeakRSSBytes))
		fmt.Fprintf(w, "wrote\t%s\n", whole(o.Out))
		if filepath.Ext(filepath.Clean(o.Out)) != ".mlpackage" {
			fmt.Fprint(w, "rename\tCore ML's tools open a package only under a name that ends in .mlpackage\n")
		}
	})
}

func printCoreAI(w io.Writer, o coreaiObject) error {
	return table(w, func(w io.Writer) {
		fmt.Fprintf(w, "shape\t%s, at most %d positions\n", o.Shape, o.Context)
		if len(o.Command) > 0 {
			fmt.Fprintf(w, "size\t%s\n", size(o.Bytes))
		} else {
			fmt.Fprintf(w, "functions\t%s\n", summary(o.Functions))
			fmt.Fprintf(w, "size\t%s, %s of it the asset\n", size(o.Bytes), size(o.AssetBytes))
			fmt.Fprintf(w, "read back\t%d palettes, equal bit for bit\n", o.Palettes)
		}
		for _, c := range o.Check {
			on := thousands(int64(c.Tokens)) + " tokens"
			if c.Functions > 1 {
				on += ", " + strconv.Itoa(c.Functions) + " functions"
			}
			fmt.Fprintf(w, "%s\tlogits within %.1e of the engine (%s); fp16: KL %.1e\n", c.Function, c.MaxLogit, on, c.HalfKL)
		}
		for _, d := range o.Data {
			fmt.Fprintf(w, "%s\tperplexity %.4f on %s tokens, the engine %.4f; KL %.1e\n", d.Function, d.Perplexity, thousands(int64(d.Tokens)), d.EnginePerplexity, d.KL)
			if d.ReferenceKL != nil {
				fmt.Fprintf(w, "\tKL %.6f from the reference, the engine %.6f\n", *d.ReferenceKL, *d.EngineReferenceKL)
			}
		}
		fmt.Fprintf(w, "content hash\t%s\n", o.ContentHash)
		fmt.Fprintf(w, "time\t%.1f s, %s peak memory\n", o.Seconds, size(o.PeakRSSBytes))
		fmt.Fprintf(w, "wrote\t%s\n", whole(o.Out))
		if len(o.Command) > 0 {
			fmt.Fprintf(w, "not compiled\trun %s\n", shellCommand(o.Command))
		}
	})
}

// shellCommand returns a command as a shell reads it. Its words are not broken over lines.
func shellCommand(words []string) string {
	out := make([]string, len(words))
	for i, word := range words {
		if strings.Trim(word, shellPlain) != "" {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		out[i] = whole(word)
	}
	return strings.Join(out, " ")
}

// shellPlain are the characters that mean nothing else to a shell.
const shellPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,="

// summary lists functions, of many only the first.
func summary(names []string) string {
	if len(names) <= 4 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, … %d in all", strings.Join(names[:3], ", "), len(names))
}

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"afmq/pkg/fault"
	"afmq/pkg/recovery"
)

// recoverOptions are the flags of recover. Those that need parsing are beside the embedded
// recovery.Options, into which the others are read.
type recoverOptions struct {
	recovery.Options
	trainingFlags
	ranks, initTokens string
	init, allocation  string
	patterns          []string
	compute           computeFlag
	dryRun            dryRunFlag

	launcher string
	fsdp     bool
	torchrun recovery.Torchrun
}

// Values of --launcher.
const (
	torchrunLauncher = "torchrun"
	jobLauncher      = "job"
)

type recoverObject struct {
	Schema string `json:"schema"`
	Out    string `json:"out"`
	*recovery.Result
}

// recoverJobObject is printed with --launcher job.
type recoverJobObject struct {
	Schema string `json:"schema"`
	*recovery.Prepared
}

func newRecoverCommand(a *app) *cobra.Command {
	var o recoverOptions
	cmd := &cobra.Command{
		Use:   "recover ARTIFACT [--teacher MODEL] --data FILE --out DIR",
		Short: "Train LoRA adapters that recover the quality lost to few bits",
		Long: `Trains a LoRA adapter on every projection of ARTIFACT, whose weights stay frozen, so that
its predictions approach those of the 16-bit model it was made from. --rank takes several
ranks; their adapters are trained side by side on the same text.

DIR receives for each rank R:
  rank-R        the adapter with the lowest loss on the validation text, in PEFT's format
  rank-R-last   the adapter after the last step
and recovery.json, metrics.jsonl, loss.svg and, for several ranks, curve.svg.

Data files are text, .jsonl with one {"text": …} per line, or .safetensors with one tensor
"tokens" of token ids. They are divided into three parts that share no document: training
text, validation text, which chooses the best step, and test text, which chooses nothing.
A long document is divided into blocks, with a gap between held-out and training text. A
document or block is excluded from training if a quarter of its runs of 8 token ids occur in
held-out text, if it has a quarter, and at least 32, of the runs of one held-out document, or
if it shares 8 distinct runs of 24 token ids with held-out text. Runs of 24 that occur in more
than 16 documents or blocks and in more than a sixteenth of all do not count. Report the test
figures.

--init, the adapter before the first step:
  svd    the best approximation of the quantization error W−Ŵ, weighted by the second
         moments of activations and gradients (default)
  plain  the best approximation of W−Ŵ without weights
  zero   A random, B zero: LoRA's own

--loss, what training minimizes:
  kl   KL divergence from the teacher (default)
  ce   cross-entropy of the text; needs no teacher with --init zero or --from
  mix  --mix · kl + (1 − --mix) · ce

--compute bf16 trains in mixed precision: the models' products round their operands to
bfloat16; sums and the optimizer stay in float32.

--launcher torchrun has PyTorch make the steps, on GPUs where there are any: text, init, test
and output are the same. AFMQ_PYTHON names the Python interpreter that has PyTorch. --launcher
job prepares the steps and prints the command that makes them, for other machines; after it,
the command without --launcher writes the adapters. Each continues what another has saved.
--teacher-top-k K trains on the K largest logits of the teacher, which runs once over each
sequence, instead of on all.

--from starts from an existing adapter, for example an application's adapter from the
recovery adapter. An interrupted command continues when it is given again, and its files
have the same bytes as without the interruption; nothing is saved before the adapters are
initialized.`,
		Example: `  afmq recover my-3.5bit --teacher models/my-model --data train.jsonl --out recovered
  afmq recover my-2bit --teacher models/my-model --data train.jsonl --rank 8,16,32 --tokens 10M --out recovered
  AFMQ_PYTHON=train/bin/python afmq recover my-2bit --teacher models/my-model --data train.jsonl --tokens 100M --compute bf16 --launcher torchrun --nproc-per-node 8 --out recovered
  afmq recover my-3.5bit --from recovered/rank-16 --loss ce --data summaries.jsonl --rate 2e-4 --out summarizer`,
		RunE: func(cmd *cobra.Command, args []string) error { return runRecover(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	o.register(f, trainingTargets{
		teacher: &o.Teacher, data: &o.Data, mix: &o.Mix, temperature: &o.Temperature,
		rate: &o.Rate, warmup: &o.Warmup, clip: &o.Clip, seqLen: &o.SeqLen, seed: &o.Seed, recompute: &o.Recompute, restart: &o.Restart,
		defaultRate: recovery.DefaultRate, rateHelp: "peak learning `RATE`", tokensHelp: "`N` tokens to train each adapter on, for example 500k or 10M",
		batchHelp: "`N` tokens in a step (default: 1024, or --seq-len where that is more)",
		seedHelp:  "`SEED` of the order of the text, what is held out, and the random numbers of an init",
	})
	registerOut(f, &o.Out, outDir, "`DIR` to write; must not exist, or be empty")
	f.StringVar(&o.ranks, "rank", "", "`RANK` of the adapter, or several as 8,16,32 (default 16)")
	f.StringVar(&o.init, "init", "", "`INIT`: svd, plain or zero (default svd)")
	f.StringVar(&o.From, "from", "", "`DIR` of the adapter to start from; its rank, alpha and modules are kept")
	f.Float64Var(&o.Alpha, "alpha", 0, "`ALPHA`, PEFT's lora_alpha (default: the rank, which makes the scale 1)")
	f.BoolVar(&o.RSLoRA, "rslora", false, "scale by alpha/√rank instead of alpha/rank")
	f.StringArrayVar(&o.Targets, "targets", nil, "adapt only the modules that match `REGEX`, for example 'mlp' or 'q_proj|v_proj'; repeatable")
	f.StringArrayVar(&o.patterns, "rank-pattern", nil, "another rank for the modules that match: `REGEX=RANK`; repeatable, the last match wins")
	f.StringVar(&o.allocation, "rank-allocation", "", "`ALLOCATION`: uniform, or loss for ranks by what each module gains, with as many values in all (default uniform)")
	f.Float64Var(&o.WeightDecay, "weight-decay", 0, "AdamW's weight `DECAY`")
	f.StringVar(&o.initTokens, "init-tokens", strconv.Itoa(recovery.DefaultInitTokens), "`N` training tokens from which --init svd computes its weights")
	f.BoolVar(&o.Float32, "f32", false, "store the adapters in F32 instead of F16")
	f.BoolVar(&o.Float8, "f8", false, "store the adapters in F8_E4M3, in half of the bytes of F16")
	f.BoolVar(&o.AllowUnbound, "allow-unbound", false, "accept a --from adapter that does not name the artifact it was trained on")
	f.BoolVar(&o.AllowTeacher, "allow-teacher", false, "accept a --teacher other than the model that the artifact was made from; its tokenizer must be the same")
	o.compute.register(f, "f32")
	f.StringVar(&o.launcher, "launcher", "", "`LAUNCHER` of what makes the steps: torchrun, or job to prepare them only (default: this process)")
	f.IntVar(&o.torchrun.Processes, "nproc-per-node", 1, "torchrun: `N` processes on this machine, one for each GPU")
	f.StringArrayVar(&o.torchrun.Args, "torchrun-arg", nil, "torchrun: a further argument of it, as --torchrun-arg=`ARG`; repeatable")
	f.BoolVar(&o.fsdp, "fsdp", false, "torchrun: divide the layers of the models among the processes, instead of whole models in each")
	f.IntVar(&o.torchrun.MicroBatch, "micro-batch", 0, "torchrun: `N` sequences in a forward pass of a process (default: what 1 GiB of intermediate results allows)")
	f.BoolVar(&o.torchrun.Packed, "packed", false, "torchrun: keep palettes packed and dequantize them in every product: less memory, more time")
	f.BoolVar(&o.torchrun.Compile, "torch-compile", false, "torchrun: compile the layers with torch.compile, which fuses the dequantization of --packed")
	f.IntVar(&o.TeacherTopK, "teacher-top-k", 0, "torchrun: train on the `K` largest logits of the teacher and store them; it runs once over each sequence (default: all logits)")
	o.dryRun.register(f)
	must(cmd.MarkFlagRequired("data"))
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

// options combines the flags.
func (o *recoverOptions) options(cmd *cobra.Command, a *app, artifact string) (recovery.Options, error) {
	r := o.Options
	r.Artifact, r.Init, r.Loss = artifact, recovery.Init(o.init), recovery.Loss(o.loss)
	r.RankAllocation = recovery.RankAllocation(o.allocation)
	r.Pool, r.Progress, r.ToolVersion = a.workers(), a.progress(), version
	var err error
	if r.Compute, err = o.compute.choose(false); err != nil {
		return r, err
	}
	if err := o.checkFlags(cmd); err != nil {
		return r, err
	}
	err = setCounts([]count{
		{"tokens", o.tokens, func(n int64) { r.Tokens = n }},
		{"batch-tokens", o.batchTokens, func(n int64) { r.BatchTokens = int(n) }},
		{"validation-tokens", o.validation, func(n int64) { r.Validation = int(n) }},
		{"init-tokens", o.initTokens, func(n int64) { r.InitTokens = int(n) }},
	})
	if err != nil {
		return r, err
	}
	noneFor(&r.Warmup, &r.Clip)
	if cmd.Flags().Changed("rank") {
		for part := range strings.SplitSeq(o.ranks, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(part))
			if err != nil || n < 1 {
				return r, fault.Usagef("--rank %q: %q is not a rank, a whole number such as 16", o.ranks, strings.TrimSpace(part))
			}
			r.Ranks = append(r.Ranks, n)
		}
	}
	if o.launcher != "" {
		own := o.torchrun
		own.Python = os.Getenv(recovery.PythonVariable)
		if o.fsdp {
			own.Parallel = recovery.FSDP
		}
		r.Torchrun = &own
	}
	for _, s := range o.patterns {
		p, err := recovery.ParseRankPattern(s)
		if err != nil {
			return r, err
		}
		r.Pattern = append(r.Pattern, p)
	}
	return r, nil
}

// checkFlags refuses values that the library would take for its defaults, and flags without
// effect.
func (o *recoverOptions) checkFlags(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	if err := o.check(cmd.Flags(), "alpha"); err != nil {
		return err
	}
	for _, flag := range []string{"nproc-per-node", "micro-batch", "teacher-top-k"} {
		if n, _ := cmd.Flags().GetInt(flag); changed(flag) && n < 1 {
			return fault.Usagef("--%s %d: expected a positive number", flag, n)
		}
	}
	if o.launcher == "" {
		for _, flag := range []string{"nproc-per-node", "torchrun-arg", "fsdp", "micro-batch", "packed", "torch-compile", "teacher-top-k"} {
			if changed(flag) {
				return fault.Usagef("--%s has no meaning without --launcher", flag)
			}
		}
	}
	if o.launcher != "" && o.launcher != torchrunLauncher && o.launcher != jobLauncher {
		return fault.Usagef("unknown launcher %q; choose %s or %s", o.launcher, torchrunLauncher, jobLauncher)
	}
	return nil
}

func runRecover(cmd *cobra.Command, a *app, artifact string, o recoverOptions) error {
	opts, err := o.options(cmd, a, artifact)
	if err != nil {
		return err
	}
	if o.launcher == jobLauncher {
		return prepareRecovery(cmd, a, opts)
	}
	if o.dryRun.on {
		e, err := recovery.Estimate(cmd.Context(), opts)
		if err != nil {
			return err
		}
		e.SetMachine(a.memoryBytes, filepath.Dir(opts.Out))
		return o.dryRun.print(a, "recover", opts.Out, "give --recompute, or a smaller --batch-tokens, --seq-len or --rank", e)
	}
	r, err := recovery.Run(cmd.Context(), opts)
	if err != nil {
		return err
	}
	a.warn(r.Warnings)
	out := recoverObject{"afmq.recover/v1", opts.Out, r}
	return a.print(out, func(w io.Writer) error { return printRecovery(w, out) })
}

// prepareRecovery writes the job and prints how its steps are made.
func prepareRecovery(cmd *cobra.Command, a *app, opts recovery.Options) error {
	p, err := recovery.Prepare(cmd.Context(), opts)
	if err != nil {
		return err
	}
	return a.print(recoverJobObject{"afmq.recover-job/v1", p}, func(w io.Writer) error {
		return table(w, func(w io.Writer) {
			fmt.Fprintf(w, "job\t%s\n", whole(p.Job))
			fmt.Fprintf(w, "steps\t%d of %d are made\n", p.Step, p.Steps)
			fmt.Fprintf(w, "to make the others\tPYTHONPATH=%s %s\n", shellCommand([]string{p.Directory}), shellCommand(p.Command))
			fmt.Fprintf(w, "then\tthe same command without --launcher\n")
		})
	})
}

// printRecovery prints a table of the adapters, and one of their figures with a line for the
// artifact alone: on the validation text, which chose the step, and on the test text.
func printRecovery(w io.Writer, o recoverObject) error {
	first := o.Adapters[0]
	err := table(w, func(w io.Writer) {
		fmt.Fprintf(w, "rank\tsize\tbits per weight with adapter\tbest step\n")
		for _, a := range o.Adapters {
			fmt.Fprintf(w, "%d\t%s\t%.4f\t%d of %d\n", a.Rank, size(a.Bytes), a.WithAdapter, a.Step, o.Steps)
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := table(w, func(w io.Writer) { printRecovered(w, o.Adapters) }); err != nil {
		return err
	}
	return table(w, func(w io.Writer) {
		if p := first.Test.PerplexityTeacher; p != nil {
			fmt.Fprintf(w, "\nteacher's test perplexity\t%.4f\n", *p)
		}
		fmt.Fprintf(w, "\ntokens\t%s to train on, %s for validation, %s for test, %s excluded\n",
			thousands(int64(o.TrainTokens)), thousands(int64(o.ValidationTokens)), thousands(int64(o.TestTokens)), thousands(int64(o.ExcludedTokens)))
		fmt.Fprintf(w, "trained on\t%s tokens each\n", thousands(first.Tokens))
		fmt.Fprintf(w, "speed\t%.0f tokens/s, %.1f s in all\n", o.TokensPerSecond, o.Seconds)
		fmt.Fprintf(w, "wrote\t%s\n", whole(o.Out))
	})
}

// printRecovered prints the rows of figures. Without a teacher there is only the perplexity.
func printRecovered(w io.Writer, adapters []recovery.AdapterResult) {
	first := adapters[0]
	teacher := first.KLBefore != nil
	figures := func(perplexity float64, kl, recovered *float64) {
		fmt.Fprintf(w, "\t%.4f", perplexity)
		switch {
		case !teacher:
		case recovered == nil:
			fmt.Fprintf(w, "\t%.6f\t-", *kl)
		default:
			fmt.Fprintf(w, "\t%.6f\t%.1f %%", *kl, 100**recovered)
		}
	}
	if teacher {
		fmt.Fprint(w, "\tvalidation\t\t\ttest\t\t\n")
		fmt.Fprint(w, "rank\tperplexity\tKL\trecovered\tperplexity\tKL\trecovered\n")
	} else {
		fmt.Fprint(w, "rank\tvalidation perplexity\ttest perplexity\n")
	}
	fmt.Fprint(w, "-")
	figures(first.PerplexityBefore, first.KLBefore, nil)
	figures(first.Test.PerplexityBefore, first.Test.KLBefore, nil)
	fmt.Fprintln(w)
	for _, a := range adapters {
		fmt.Fprintf(w, "%d", a.Rank)
		figures(a.PerplexityAfter, a.KLAfter, a.Recovered)
		figures(a.Test.PerplexityAfter, a.Test.KLAfter, a.Test.Recovered)
		fmt.Fprintln(w)
	}
}

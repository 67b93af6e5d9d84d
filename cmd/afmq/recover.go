package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"afmq/pkg/fault"
	"afmq/pkg/recovery"
)

// recoverOptions are the flags of recover that are not read straight into
// recovery.Options.
type recoverOptions struct {
	recovery.Options
	ranks, tokens, batchTokens, validation, initTokens string
	init, loss                                         string
	patterns                                           []string
	compute                                            computeFlag
}

type recoverObject struct {
	Schema string `json:"schema"`
	Out    string `json:"out"`
	*recovery.Result
}

func newRecoverCommand(a *app) *cobra.Command {
	var o recoverOptions
	cmd := &cobra.Command{
		Use:   "recover ARTIFACT [--teacher MODEL] --data FILE --out DIR",
		Short: "Train LoRA adapters that win back what few bits cost",
		Long: `Trains a low-rank adapter on every projection of ARTIFACT, whose weights stay as they
are, until the model comes near to the 16-bit model that it was made from. --rank takes
several ranks, which are trained side by side on the same text.

DIR receives for each rank R:
  rank-R        the adapter that did best on held-out text, in PEFT's format
  rank-R-last   the adapter after the last step
and recovery.json, metrics.jsonl, loss.svg and, for several ranks, curve.svg.

Data files are text, .jsonl with one {"text": …} a line, or .safetensors with one tensor
"tokens" of token ids. Whole documents are held out for validation.

Init:
  svd    what best makes up for W−Ŵ, weighted by activations and gradients on text (default)
  plain  what best makes up for W−Ŵ itself
  zero   nothing: A random, B zero

Loss:
  kl   divergence from the teacher (default)
  ce   cross-entropy of the text; needs no teacher with --init zero or --from
  mix  --mix of the divergence and the rest of cross-entropy

--compute bf16 trains as automatic mixed precision does: the models' products round their
operands to bfloat16, sums and the optimizer stay in float32.

--from starts from an adapter instead: an application's adapter from the recovery
adapter. A command that was interrupted continues when it is given again, and ends with
the same bytes.`,
		Example: `  afmq recover my-3.5bit --teacher models/my-model --data train.jsonl --out recovered
  afmq recover my-2bit --teacher models/my-model --data train.jsonl --rank 8,16,32 --tokens 10M --out recovered
  afmq recover my-3.5bit --from recovered/rank-16 --loss ce --data summaries.jsonl --rate 2e-4 --out summarizer`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runRecover(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.Teacher, "teacher", "", "the 16-bit checkpoint `MODEL` that the artifact was made from")
	f.StringArrayVar(&o.Data, "data", nil, "`FILE` of text to train on (.jsonl, text, or tokens as .safetensors); repeatable")
	f.StringVar(&o.Out, "out", "", "`DIR` to write; must not exist, or be empty")
	f.StringVar(&o.ranks, "rank", "", "`RANK` of the adapter, or several as 8,16,32 (default 16)")
	f.StringVar(&o.tokens, "tokens", "2M", "`N` tokens to train each adapter on, such as 500k or 2M")
	f.StringVar(&o.init, "init", "", "`INIT`: svd, plain or zero (default svd)")
	f.StringVar(&o.From, "from", "", "`DIR` of an adapter to start from; its rank, alpha and modules are kept")
	f.StringVar(&o.loss, "loss", string(recovery.LossKL), "`LOSS`: kl, ce or mix")
	f.Float64Var(&o.Mix, "mix", recovery.DefaultMix, "`SHARE` of the divergence in --loss mix")
	f.Float64Var(&o.Temperature, "temperature", 1, "`T` that divides the logits of both models in the divergence")
	f.Float64Var(&o.Alpha, "alpha", 0, "`ALPHA`, PEFT's lora_alpha (default: the rank, so that the scale is 1)")
	f.BoolVar(&o.RSLoRA, "rslora", false, "scale by alpha/√rank instead of alpha/rank")
	f.StringArrayVar(&o.Targets, "targets", nil, "adapt only modules that match `REGEX`, such as 'mlp' or 'q_proj|v_proj'; repeatable")
	f.StringArrayVar(&o.patterns, "rank-pattern", nil, "another rank for the modules that match: `REGEX=RANK`; repeatable, later ones win")
	f.Float64Var(&o.Rate, "rate", recovery.DefaultRate, "highest learning `RATE`")
	f.Float64Var(&o.Warmup, "warmup", recovery.DefaultWarmup, "`SHARE` of the steps over which the rate rises")
	f.Float64Var(&o.WeightDecay, "weight-decay", 0, "AdamW's `DECAY`")
	f.Float64Var(&o.Clip, "clip", recovery.DefaultClip, "largest `NORM` of the gradient; 0 for no limit")
	f.StringVar(&o.batchTokens, "batch-tokens", strconv.Itoa(recovery.DefaultBatchTokens), "`N` tokens in a step")
	f.IntVar(&o.SeqLen, "seq-len", 0, "`N` tokens in a sequence (default: min(512, max_position_embeddings))")
	f.StringVar(&o.validation, "validation-tokens", strconv.Itoa(recovery.DefaultValidation), "`N` tokens held out, in whole documents")
	f.StringVar(&o.initTokens, "init-tokens", strconv.Itoa(recovery.DefaultInitTokens), "`N` training tokens that --init svd looks at")
	f.Int64Var(&o.Seed, "seed", 0, "`SEED` of the order of the text, what is held out, and what an init draws")
	f.BoolVar(&o.Recompute, "recompute", false, "take less memory and more time: run each layer forward again in the backward pass")
	f.BoolVar(&o.Float32, "f32", false, "store the adapters in F32 instead of F16")
	f.BoolVar(&o.AllowUnbound, "allow-unbound", false, "let --from be an adapter that does not say which artifact it was trained on")
	f.BoolVar(&o.AllowTeacher, "allow-teacher", false, "let --teacher be another model than the artifact was made from, with the same tokenizer")
	o.compute.register(f, "f32")
	f.BoolVar(&o.Restart, "restart", false, "discard what an interrupted run left")
	must(cmd.MarkFlagRequired("data"))
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

// options puts the flags together.
func (o *recoverOptions) options(cmd *cobra.Command, a *app, artifact string) (recovery.Options, error) {
	r := o.Options
	r.Artifact, r.Init, r.Loss = artifact, recovery.Init(o.init), recovery.Loss(o.loss)
	r.Pool, r.Progress, r.ToolVersion = a.workers(), a.progress(), version
	var err error
	if r.Compute, err = o.compute.choose(false); err != nil {
		return r, err
	}
	changed := cmd.Flags().Changed
	counts := []struct {
		flag, text string
		set        func(int64)
	}{
		{"tokens", o.tokens, func(n int64) { r.Tokens = n }},
		{"batch-tokens", o.batchTokens, func(n int64) { r.BatchTokens = int(n) }},
		{"validation-tokens", o.validation, func(n int64) { r.Validation = int(n) }},
		{"init-tokens", o.initTokens, func(n int64) { r.InitTokens = int(n) }},
	}
	for _, c := range counts {
		n, err := parseCount(c.flag, c.text)
		if err != nil {
			return r, err
		}
		if n > 1<<40 || c.flag != "tokens" && n > 1<<30 {
			return r, fault.Usagef("--%s %s is too many", c.flag, c.text)
		}
		c.set(n)
	}
	for _, f := range []struct {
		name  string
		value *float64
	}{{"warmup", &r.Warmup}, {"clip", &r.Clip}} {
		if *f.value < 0 {
			return r, fault.Usagef("--%s %v is negative", f.name, *f.value)
		}
		if *f.value == 0 { // which the library takes for its default
			*f.value = -1
		}
	}
	for _, flag := range []string{"rate", "mix", "temperature", "alpha"} {
		if v, _ := cmd.Flags().GetFloat64(flag); changed(flag) && v == 0 {
			return r, fault.Usagef("--%s 0 is not a positive number", flag)
		}
	}
	if changed("seq-len") && r.SeqLen < 2 {
		return r, fault.Usagef("--seq-len %d: a sequence has at least 2 tokens", r.SeqLen)
	}
	if changed("mix") && r.Loss != recovery.LossMix {
		return r, fault.Usagef("--mix has no meaning with --loss %s", r.Loss)
	}
	if changed("temperature") && r.Loss == recovery.LossCE {
		return r, fault.Usagef("--temperature has no meaning with --loss ce")
	}
	if changed("rank") {
		for part := range strings.SplitSeq(o.ranks, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(part))
			if err != nil || n < 1 {
				return r, fault.Usagef("--rank %q: %q is not a rank", o.ranks, strings.TrimSpace(part))
			}
			r.Ranks = append(r.Ranks, n)
		}
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

func runRecover(cmd *cobra.Command, a *app, artifact string, o recoverOptions) error {
	opts, err := o.options(cmd, a, artifact)
	if err != nil {
		return err
	}
	r, err := recovery.Run(cmd.Context(), opts)
	if err != nil {
		return err
	}
	out := recoverObject{"afmq.recover/v1", opts.Out, r}
	return a.print(out, func(w io.Writer) error { return printRecovery(w, out) })
}

// printRecovery prints the recovery curve: what each rank takes and what it wins back.
func printRecovery(w io.Writer, o recoverObject) error {
	return table(w, func(w io.Writer) {
		first := o.Adapters[0]
		teacher := first.KLBefore != nil
		fmt.Fprint(w, "rank\tsize\tbpw with adapter\tperplexity\tafter init\tbest step\t")
		if teacher {
			fmt.Fprint(w, "KL\tafter init\trecovered\t")
		}
		fmt.Fprintf(w, "\n-\t-\t-\t%.4f\t-\t-\t", first.PerplexityBefore)
		if teacher {
			fmt.Fprintf(w, "%.6f\t-\t-\t", *first.KLBefore)
		}
		fmt.Fprintln(w)
		for _, a := range o.Adapters {
			fmt.Fprintf(w, "%d\t%s\t%.4f\t%.4f\t%.4f\t%d of %d\t", a.Rank, size(a.Bytes), a.WithAdapter, a.PerplexityAfter, a.PerplexityInit, a.Step, o.Steps)
			if teacher {
				fmt.Fprintf(w, "%.6f\t%.6f\t%.1f %%\t", *a.KLAfter, *a.KLInit, 100**a.Recovered)
			}
			fmt.Fprintln(w)
		}
		if first.PerplexityTeacher != nil {
			fmt.Fprintf(w, "\nteacher's perplexity\t%.4f\n", *first.PerplexityTeacher)
		}
		fmt.Fprintf(w, "\nmeasured on\t%s tokens held out\n", thousands(int64(o.ValidationTokens)))
		fmt.Fprintf(w, "trained on\t%s tokens each\n", thousands(first.Tokens))
		fmt.Fprintf(w, "speed\t%.0f tokens/s, %.1f s in all\n", o.TokensPerSecond, o.Seconds)
		fmt.Fprintf(w, "wrote\t%s\n", o.Out)
	})
}

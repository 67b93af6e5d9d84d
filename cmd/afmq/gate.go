package main

import (
	"io"
	"math"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/internal/disk"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/gate"
)

// gateOptions are the flags of gate.
type gateOptions struct {
	baseline, data, reference string
	protocol                  string
	compute                   computeFlag
	ctx, stride               int
	maxNats, maxKLRise        float64
	maxKL, maxBPW             float64
	maxBytes                  string
	junit                     string
	update, acceptWorse       bool
	allowOverlap              bool
	adapters                  adapterFlags
}

type gateObject struct {
	Schema      string `json:"schema"`
	ToolVersion string `json:"tool_version"`
	Artifact    string `json:"artifact"`
	Adapter     string `json:"adapter,omitempty"`
	Reference   string `json:"reference_path,omitempty"`
	Data        string `json:"data"`
	Baseline    string `json:"baseline"`
	*gate.Result
}

func newGateCommand(a *app) *cobra.Command {
	var o gateOptions
	cmd := &cobra.Command{
		Use:   "gate ARTIFACT --baseline FILE --data FILE",
		Short: "Test that an artifact is no worse than a recorded baseline",
		Long: `Verifies ARTIFACT, scores the text with it, and compares it, window by window, with the
figures that the baseline recorded of an earlier model on the same text. The artifact
passes only if the text shows that it is no worse: a test of non-inferiority.

  --max-nats     margin for the rise of the loss over the baseline, in nats per token
                 (default 0.01, about 1 % of perplexity)
  --max-kl-rise  margin for the rise of the mean divergence from the reference
                 (default with --update: that of --max-nats; otherwise none)
  --max-kl       limit of the mean divergence from the reference
  --max-bytes    limit of the size of model.safetensors
  --max-bpw      limit of the bits per weight of the projections

A mean is judged by its 95 % interval over the windows; each end is a one-sided bound of
97.5 %:

  no worse       exit 0  the upper end is within the limit
  worse          exit 5  the lower end is above the limit
  inconclusive   exit 7  the limit lies inside the interval: the text is too short to tell;
                         the output estimates the length that would do

A rise is the mean of the differences in each window, weighted by its scored tokens. Its
standard error is that of batches of consecutive windows, because windows of one text depend
on their neighbours. At least 8 windows are needed; limits of means must be above 0.

The text must not repeat itself, because copies are no independent evidence: at most 10 % of
its runs of 24 tokens, and 20 % of its runs of about 32 bytes, may occur earlier in it (exit
code 3).

--update records the baseline if the limits are kept. An existing baseline is replaced only
by an artifact that is no worse than it, in its loss and in its divergence. If the baseline
records divergences, --update needs --reference. --accept-worse replaces the baseline in any
case and is needed where the two cannot be compared.

The baseline records what the figures depend on: text, tokenizer, protocol, context,
arithmetic, reference. If one of these differs, nothing is compared: exit code 3. Protocol,
context and stride that are not given are those of the baseline.`,
		Example: `  afmq gate my-4bit --baseline baseline.json --data held-out.txt --reference my-model --update
  afmq gate my-new --baseline baseline.json --data held-out.txt --reference my-model --max-nats 0.005 --max-bytes 400MB --junit gate.xml`,
		RunE: func(cmd *cobra.Command, args []string) error { return runGate(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.baseline, "baseline", "", "`FILE` with the recorded figures")
	f.StringVar(&o.data, "data", "", "`FILE` of text to score (.jsonl or text)")
	f.StringVar(&o.reference, "reference", "", "the 16-bit checkpoint `MODEL` to measure the divergence from")
	f.StringVar(&o.protocol, "protocol", "", "`PROTOCOL`: chunk, llamacpp or stride (default: the baseline's; chunk without one)")
	f.IntVar(&o.ctx, "ctx", 0, "`N` tokens in a window (default: the baseline's; min(512, max_position_embeddings) without one)")
	f.IntVar(&o.stride, "stride", 0, "`N` tokens between windows, for protocol stride (default: the baseline's; ctx/2 without one)")
	o.compute.register(f, "f32") // on which machines agree
	f.Float64Var(&o.maxNats, "max-nats", gate.DefaultNats, "margin for the rise of the loss in `NATS` per token, above 0; judged by the interval's upper end")
	f.Float64Var(&o.maxKLRise, "max-kl-rise", 0, "margin for the rise of the mean divergence in `NATS` per token, above 0; judged by the interval's upper end")
	f.Float64Var(&o.maxKL, "max-kl", 0, "limit of the mean divergence in `NATS` per token, above 0; judged by the interval's upper end")
	f.StringVar(&o.maxBytes, "max-bytes", "", "limit of the size of model.safetensors: `SIZE`, such as 400MB or 1.5GiB")
	f.Float64Var(&o.maxBPW, "max-bpw", 0, "limit of the `BITS` per weight of the projections")
	f.StringVar(&o.junit, "junit", "", "also write the verdict as JUnit XML to `FILE`")
	f.BoolVar(&o.update, "update", false, "record the baseline if the limits are kept and the artifact is no worse than the one there")
	f.BoolVar(&o.acceptWorse, "accept-worse", false, "with --update, replace a baseline that the artifact is not shown to be no worse than")
	f.BoolVar(&o.allowOverlap, "allow-overlap", false, "score a file that the artifact was calibrated on, or an adapter trained on")
	o.adapters.register(f)
	f.Lookup("adapter").Usage = "judge the artifact with the adapter `[NAME=]DIR`; an existing directory whose path has an = is taken as DIR"
	must(cmd.MarkFlagRequired("baseline"))
	must(cmd.MarkFlagRequired("data"))
	return cmd
}

// limits checks the flags and returns the limits.
func (o *gateOptions) limits(f *pflag.FlagSet) (gate.Limits, error) {
	l := gate.Limits{Nats: o.maxNats}
	if err := aboveZero("max-nats", o.maxNats); err != nil {
		return l, err
	}
	for _, x := range []struct {
		flag  string
		value *float64
		dst   **float64
	}{
		{"max-kl-rise", &o.maxKLRise, &l.KLRise}, {"max-kl", &o.maxKL, &l.KL},
	} {
		if !f.Changed(x.flag) {
			continue
		}
		if err := aboveZero(x.flag, *x.value); err != nil {
			return l, err
		}
		*x.dst = x.value
	}
	if f.Changed("max-bpw") {
		if !(o.maxBPW > 0 && o.maxBPW <= 32) {
			return l, fault.Usagef("--max-bpw %v is not a number of bits per weight above 0 and at most 32", o.maxBPW)
		}
		l.BPW = &o.maxBPW
	}
	if o.maxBytes != "" {
		n, err := parseSize("max-bytes", o.maxBytes)
		if err != nil {
			return l, err
		}
		l.Bytes = &n
	}
	switch {
	case (l.KL != nil || l.KLRise != nil) && o.reference == "":
		return l, fault.Usagef("--max-kl and --max-kl-rise need --reference")
	case o.acceptWorse && !o.update:
		return l, fault.Usagef("--accept-worse needs --update")
	case len(o.adapters.list) > 1:
		return l, fault.Usagef("a gate judges one adapter; %d are given", len(o.adapters.list))
	}
	return l, nil
}

// aboveZero refuses a limit of a mean that no text can show to be kept, or that is not a number.
func aboveZero(flag string, value float64) error {
	if value > 0 && !math.IsInf(value, 0) {
		return nil
	}
	return fault.Usagef("--%s %v is not a number of nats per token above 0", flag, value).
		WithHint("a sample cannot show that a mean is at most 0; gate's default margin is %v nats per token, about 1 %% of perplexity", gate.DefaultNats)
}

func runGate(cmd *cobra.Command, a *app, path string, o gateOptions) error {
	opts, err := o.options(cmd, a, path)
	if err != nil {
		return err
	}
	if o.junit != "" {
		if err := opts.CheckOutput(o.junit); err != nil {
			return err
		}
		if err := disk.CheckReplaceable(o.junit); err != nil {
			return err
		}
	}
	r, err := gate.Run(cmd.Context(), opts)
	if err != nil {
		return err
	}
	a.warn(slices.Concat(limitWarnings(cmd.Flags()), r.Warnings))
	if o.junit != "" {
		report := gate.Report{Artifact: path, Data: o.data, ContentHash: r.Model.Digest, Seconds: r.Seconds}
		if err := r.WriteJUnit(o.junit, report); err != nil {
			return err
		}
	}
	out := &gateObject{
		Schema: "afmq.gate/v1", ToolVersion: version, Artifact: path, Reference: o.reference, Data: o.data, Baseline: o.baseline, Result: r,
	}
	if opts.Adapter != nil {
		out.Adapter = opts.Adapter.Dir
	}
	if err := a.print(out, func(w io.Writer) error { return printGate(w, out) }); err != nil {
		return err
	}
	if r.Decision == gate.NoWorse {
		return nil
	}
	failed := gateFault(path, r.Decision, r.Failures())
	if r.Kept {
		failed = failed.WithHint("%s is left as it was; --accept-worse replaces it", o.baseline)
	}
	return failed
}

// options checks the flags and returns the options of the gate.
func (o *gateOptions) options(cmd *cobra.Command, a *app, path string) (gate.Options, error) {
	limits, err := o.limits(cmd.Flags())
	if err != nil {
		return gate.Options{}, err
	}
	changed := cmd.Flags().Changed
	if o.ctx < 0 || o.stride < 0 || changed("ctx") && o.ctx == 0 || changed("stride") && o.stride == 0 {
		return gate.Options{}, fault.Usagef("--ctx and --stride are positive numbers of tokens")
	}
	arithmetic, err := o.compute.choose(false)
	if err != nil {
		return gate.Options{}, err
	}
	adapters, err := o.adapters.adapters()
	if err != nil {
		return gate.Options{}, err
	}
	opts := gate.Options{
		Artifact: path, Baseline: o.baseline, Data: o.data, Reference: o.reference, Limits: limits,
		Update: o.update, AcceptWorse: o.acceptWorse, AllowUnbound: o.adapters.allowUnbound, AllowOverlap: o.allowOverlap,
		Ctx: o.ctx, Stride: o.stride, Arithmetic: arithmetic, ToolVersion: version, Pool: a.workers(), Progress: a.progress(),
	}
	if changed("protocol") {
		if opts.Protocol, err = eval.ParseProtocol(o.protocol); err != nil {
			return opts, err
		}
	}
	if len(adapters) > 0 {
		opts.Adapter = &adapters[0]
	}
	return opts, nil
}

// gateFault returns the error of a gate that did not pass; its message is the first failure.
func gateFault(file string, outcome gate.Outcome, failures []string) *fault.Error {
	if outcome == gate.Inconclusive {
		return &fault.Error{Kind: fault.Inconclusive, File: file, Msg: "gate inconclusive: " + failures[0]}
	}
	return &fault.Error{Kind: fault.Gate, File: file, Msg: "gate failed: " + failures[0]}
}

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"afmq/internal/gate"
	"afmq/internal/infile"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
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
	update                    bool
	allowOverlap              bool
	adapters                  adapterFlags
}

type gateObject struct {
	Schema   string `json:"schema"`
	Artifact string `json:"artifact"`
	Adapter  string `json:"adapter,omitempty"`
	Data     string `json:"data"`
	Baseline string `json:"baseline"`
	Updated  bool   `json:"updated"` // the baseline was written
	*gate.Verdict
	Setting gate.Setting `json:"setting"`
	Model   gate.Subject `json:"model"`
	Tokens  int          `json:"tokens"`
	Windows int          `json:"windows"`

	NatsPerToken float64  `json:"nats_per_token"`
	KLMean       *float64 `json:"kl_mean"`
	// Those of the baseline that it was held against; null without one.
	BaselineNats *float64 `json:"baseline_nats_per_token"`
	BaselineKL   *float64 `json:"baseline_kl_mean"`

	Overlap         *eval.Overlap `json:"calibration_overlap"`
	Seconds         float64       `json:"seconds"`
	TokensPerSecond float64       `json:"tokens_per_second"`
}

func newGateCommand(a *app) *cobra.Command {
	var o gateOptions
	cmd := &cobra.Command{
		Use:   "gate ARTIFACT --baseline FILE --data FILE",
		Short: "Pass or fail an artifact against a recorded baseline, with statistics",
		Long: `Verifies ARTIFACT, scores the text with it, and holds it against the figures that the
baseline recorded of a former model on each window of the same text. It fails, with exit
code 5, if

  --max-nats     the loss rose: the lower end of the 95 % interval of the mean rise, in
                 nats per token, is above this (default 0: a rise that is no chance)
  --max-kl-rise  the divergence from the reference rose, likewise
  --max-kl       the mean divergence from the reference is above this, in nats per token
  --max-bytes    model.safetensors is larger
  --max-bpw      the projections take more bits per weight

The rise is the mean over the windows of the difference in each, weighted by its scored
tokens; the interval is Student's t over the windows, of which two are needed and which
are taken as independent. Differences up to 1e-6 nats are rounding.

--update writes the baseline instead, if the other limits are kept. It records what the
figures depend on: text, tokenizer, protocol, context, arithmetic, reference. Where one of
these is another, nothing is compared: exit code 3. Protocol, context and stride that are
not given are the baseline's.`,
		Example: `  afmq gate my-4bit --baseline baseline.json --data held-out.txt --reference my-model --update
  afmq gate my-new --baseline baseline.json --data held-out.txt --reference my-model --max-nats 0.005 --max-bytes 400MB --junit gate.xml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runGate(cmd, a, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.baseline, "baseline", "", "`FILE` with the recorded figures")
	f.StringVar(&o.data, "data", "", "`FILE` of text to score (.jsonl or text)")
	f.StringVar(&o.reference, "reference", "", "the 16-bit checkpoint `MODEL` to measure the divergence from")
	f.StringVar(&o.protocol, "protocol", "chunk", "`PROTOCOL`: chunk, llamacpp or stride (default: the baseline's; chunk with --update)")
	f.IntVar(&o.ctx, "ctx", 0, "`N` tokens in a window (default: the baseline's; min(512, max_position_embeddings) with --update)")
	f.IntVar(&o.stride, "stride", 0, "`N` tokens between windows, for protocol stride (default: the baseline's; ctx/2 with --update)")
	o.compute.register(f, "f32") // on which machines agree
	f.Float64Var(&o.maxNats, "max-nats", 0, "fail if the loss rose by more than this many `NATS` per token")
	f.Float64Var(&o.maxKLRise, "max-kl-rise", 0, "fail if the mean divergence rose by more than this many `NATS` per token")
	f.Float64Var(&o.maxKL, "max-kl", 0, "fail if the mean divergence is above this many `NATS` per token")
	f.StringVar(&o.maxBytes, "max-bytes", "", "fail if model.safetensors is larger than `SIZE`, such as 400MB or 1.5GiB")
	f.Float64Var(&o.maxBPW, "max-bpw", 0, "fail if the projections take more than `BITS` per weight")
	f.StringVar(&o.junit, "junit", "", "write the verdict as JUnit XML to `FILE`, too")
	f.BoolVar(&o.update, "update", false, "write the baseline instead of comparing with it")
	f.BoolVar(&o.allowOverlap, "allow-overlap", false, "score a file that the artifact was calibrated on, or an adapter trained on")
	o.adapters.register(f)
	must(cmd.MarkFlagRequired("baseline"))
	must(cmd.MarkFlagRequired("data"))
	return cmd
}

// limits checks the flags and returns the limits.
func (o *gateOptions) limits(f *pflag.FlagSet) (gate.Limits, error) {
	l := gate.Limits{Nats: o.maxNats}
	if math.IsNaN(o.maxNats) || math.IsInf(o.maxNats, 0) {
		return l, fault.Usagef("--max-nats %v is not a number of nats", o.maxNats)
	}
	for _, x := range []struct {
		flag  string
		value *float64
		least float64
		dst   **float64
	}{
		{"max-kl-rise", &o.maxKLRise, math.Inf(-1), &l.KLRise}, {"max-kl", &o.maxKL, 0, &l.KL}, {"max-bpw", &o.maxBPW, 0, &l.BPW},
	} {
		if !f.Changed(x.flag) {
			continue
		}
		if !(*x.value >= x.least) || math.IsInf(*x.value, 0) {
			return l, fault.Usagef("--%s %v is no limit", x.flag, *x.value)
		}
		*x.dst = x.value
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
	case o.update && (f.Changed("max-nats") || l.KLRise != nil):
		return l, fault.Usagef("--max-nats and --max-kl-rise compare with a baseline; --update writes one")
	case len(o.adapters.list) > 1:
		return l, fault.Usagef("a gate judges one adapter; %d are given", len(o.adapters.list))
	}
	return l, nil
}

func runGate(cmd *cobra.Command, a *app, path string, o gateOptions) error {
	limits, err := o.limits(cmd.Flags())
	if err != nil {
		return err
	}
	if o.update {
		err = canHold(o.baseline)
	}
	if err == nil && o.junit != "" {
		err = canHold(o.junit)
	}
	if err != nil {
		return err
	}
	out, now, err := o.judge(cmd, a, path, limits)
	if err != nil {
		return err
	}
	if o.update && out.Passed {
		if err := now.Write(o.baseline); err != nil {
			return err
		}
		out.Updated = true
	}
	if o.junit != "" {
		report := gate.Report{Artifact: path, Data: o.data, ContentHash: out.Model.Digest, Seconds: out.Seconds}
		if err := out.WriteJUnit(o.junit, report); err != nil {
			return err
		}
	}
	if err := a.print(out, func(w io.Writer) error { return printGate(w, out) }); err != nil {
		return err
	}
	if !out.Passed {
		return &fault.Error{Kind: fault.Gate, File: path, Msg: "gate failed: " + out.Failures()[0]}
	}
	return nil
}

// canHold returns an error if there is no directory for a file: better now than after the
// model has run.
func canHold(file string) error {
	dir := filepath.Dir(file)
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	return fault.Writing(file, err)
}

// judge measures the model and returns what is printed, and the baseline that it makes.
func (o *gateOptions) judge(cmd *cobra.Command, a *app, path string, limits gate.Limits) (*gateObject, *gate.Baseline, error) {
	var base *gate.Baseline
	if !o.update {
		var err error
		if base, err = gate.ReadBaseline(o.baseline); err != nil {
			return nil, nil, err
		}
	}
	compute, err := o.compute.choose(false)
	if err != nil {
		return nil, nil, err
	}
	setting, err := o.setting(cmd, a, path, compute, base)
	if err != nil {
		return nil, nil, err
	}
	subject, err := gateSubject(cmd.Context(), a, path)
	if err != nil {
		return nil, nil, err
	}
	if limits.BPW != nil && subject.BPW == nil {
		return nil, nil, fault.Inputf(path, "is a plain checkpoint, which --max-bpw says nothing of")
	}
	out := &gateObject{Schema: "afmq.gate/v1", Artifact: path, Data: o.data, Baseline: o.baseline}
	e, err := o.evaluate(cmd.Context(), a, setting, compute, out, &subject)
	if err != nil {
		return nil, nil, err
	}
	setting.Ctx, setting.Stride = e.Ctx, e.Stride
	if base != nil {
		out.BaselineNats, out.BaselineKL = &base.NatsPerToken, base.KLMean
	}
	now, err := gate.NewBaseline(o.data, version, setting, subject, e)
	if err != nil {
		return nil, nil, err
	}
	if out.Verdict, err = gate.Judge(o.baseline, base, e, subject, limits); err != nil {
		return nil, nil, err
	}
	out.Setting, out.Model, out.Tokens, out.Windows = setting, subject, e.Tokens, len(e.Windows)
	out.NatsPerToken, out.KLMean = now.NatsPerToken, now.KLMean
	out.Seconds, out.TokensPerSecond = e.Seconds, e.TokensPerSecond
	return out, now, nil
}

// setting returns what the figures will depend on, and refuses a baseline of another.
func (o *gateOptions) setting(cmd *cobra.Command, a *app, path string, compute compute.Arithmetic, base *gate.Baseline) (s gate.Setting, err error) {
	if s.Data, err = infile.Hash(o.data); err != nil {
		return s, err
	}
	if s.Tokenizer, err = infile.Hash(filepath.Join(path, "tokenizer.json")); err != nil {
		return s, err
	}
	if o.reference != "" {
		digest, err := artifact.DigestCheckpoint(cmd.Context(), a.workers(), o.reference)
		if err != nil {
			return s, err
		}
		s.Reference = &digest
	}
	changed := cmd.Flags().Changed
	if o.ctx < 0 || o.stride < 0 || changed("ctx") && o.ctx == 0 || changed("stride") && o.stride == 0 {
		return s, fault.Usagef("--ctx and --stride are positive numbers of tokens")
	}
	if s.Protocol, err = eval.ParseProtocol(o.protocol); err != nil {
		return s, err
	}
	s.Compute, s.Ctx, s.Stride = compute.String(), o.ctx, o.stride
	if base == nil {
		return s, nil
	}
	if !changed("protocol") {
		s.Protocol = base.Protocol
	}
	if !changed("ctx") {
		s.Ctx = base.Ctx
	}
	if !changed("stride") {
		s.Stride = base.Stride
	}
	if d := base.Differs(&s); d != "" {
		return s, fault.Inputf(o.baseline, "%s", d).WithHint("--update writes a new one")
	}
	return s, nil
}

// gateSubject verifies an artifact, or identifies a checkpoint.
func gateSubject(ctx context.Context, a *app, path string) (gate.Subject, error) {
	if artifact.IsArtifact(path) {
		v, err := artifact.Verify(ctx, path, artifact.VerifyOptions{Pool: a.workers(), Progress: a.progress()})
		if err != nil {
			return gate.Subject{}, err
		}
		return gate.Subject{Kind: "artifact", Digest: v.ContentHash, Bytes: v.Ledger.Total, BPW: &v.BPW.Projections}, nil
	}
	d, err := artifact.Describe(path)
	if err != nil {
		return gate.Subject{}, err
	}
	digest, err := artifact.DigestCheckpoint(ctx, a.workers(), path)
	return gate.Subject{Kind: d.Kind, Digest: digest, Bytes: d.WeightBytes}, err
}

// evaluate scores the text, with the adapter where one is given.
func (o *gateOptions) evaluate(ctx context.Context, a *app, s gate.Setting, compute compute.Arithmetic, out *gateObject, subject *gate.Subject) (*eval.Result, error) {
	adapters, err := o.adapters.adapters()
	if err != nil {
		return nil, err
	}
	in, err := eval.Open(ctx, eval.Options{
		Model: out.Artifact, Reference: o.reference, Data: o.data, Adapters: adapters,
		AllowUnbound: o.adapters.allowUnbound, AllowOverlap: o.allowOverlap, Pool: a.workers(),
	})
	if err != nil {
		return nil, err
	}
	a.warn(in.Warnings)
	model := in.Model
	if in.Corpus.SHA256 != s.Data {
		return nil, infile.Changed(o.data)
	}
	if m := model.Manifest; m != nil && m.ContentHash != subject.Digest {
		return nil, infile.Changed(out.Artifact)
	}
	out.Overlap = in.Overlap
	for _, v := range in.Variants { // one at most
		digest, err := infile.Hash(filepath.Join(v.Dir, adapter.WeightsFile))
		if err != nil {
			return nil, err
		}
		model, out.Adapter, subject.Adapter = v.Model, v.Dir, &digest
	}
	return eval.Score(ctx, model, in.Corpus, eval.ScoreOptions{
		Protocol: s.Protocol, Ctx: s.Ctx, Stride: s.Stride, Reference: in.Reference, Pool: a.workers().With(compute), Progress: a.progress(),
	})
}

func printGate(w io.Writer, o *gateObject) error {
	return table(w, func(w io.Writer) {
		s := o.Setting
		protocol := fmt.Sprintf("%s, ctx %d", s.Protocol, s.Ctx)
		if s.Stride > 0 {
			protocol += fmt.Sprintf(", stride %d", s.Stride)
		}
		fmt.Fprintf(w, "%s\t%s, %.16s…\n", o.Model.Kind, o.Artifact, o.Model.Digest)
		fmt.Fprintf(w, "size\t%s", size(o.Model.Bytes))
		if o.Model.BPW != nil {
			fmt.Fprintf(w, ", %.4f bits per weight in projections", *o.Model.BPW)
		}
		fmt.Fprintf(w, "\nscored\t%s tokens in %s windows (%s, %s)\n", thousands(int64(o.Tokens)), thousands(int64(o.Windows)), protocol, s.Compute)
		printRise(w, "nats per token", &o.NatsPerToken, o.BaselineNats, o.Nats)
		printRise(w, "KL to reference, mean", o.KLMean, o.BaselineKL, o.KL)
		if o.Updated {
			fmt.Fprintf(w, "wrote\t%s\n", o.Baseline)
		}
		for _, c := range o.Checks {
			verdict := "kept"
			if !c.Passed {
				verdict = "BROKEN"
			}
			fmt.Fprintf(w, "%s\t%s: %s\n", c.Name, verdict, c.Message)
		}
		verdict := "passed"
		if !o.Passed {
			verdict = "FAILED"
		}
		fmt.Fprintf(w, "gate\t%s\n", verdict)
	})
}

// printRise prints a figure beside that of the baseline, where they are there.
func printRise(w io.Writer, name string, now, then *float64, rise *eval.Interval) {
	if now == nil {
		return
	}
	fmt.Fprintf(w, "%s\t%.6f", name, *now)
	if rise != nil {
		fmt.Fprintf(w, ", baseline %.6f: %+.6f, %.0f %% interval %+.6f to %+.6f", *then, rise.Mean, 100*rise.Confidence, rise.Low, rise.High)
	}
	fmt.Fprintln(w)
}

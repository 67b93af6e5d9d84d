package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"afmq/internal/infile"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/gate"
)

// previous reads the baseline to compare with. With --update there may be none, and with
// --accept-worse an unreadable one counts as none.
func (o *gateOptions) previous(out *gateObject) (*gate.Baseline, error) {
	if o.update {
		if _, err := os.Lstat(o.baseline); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	base, err := gate.ReadBaseline(o.baseline)
	if err == nil || !o.update {
		return base, err
	}
	return nil, o.incomparable(out, err)
}

// incomparable returns err, the reason why a baseline cannot be compared with, or nil if
// --accept-worse replaces it without a comparison.
func (o *gateOptions) incomparable(out *gateObject, err error) error {
	if o.acceptWorse {
		out.uncompared = true
		return nil
	}
	var f *fault.Error
	if errors.As(err, &f) && f.Kind == fault.Input {
		return f.WithHint("--update --accept-worse replaces it without a comparison")
	}
	return err
}

// judge measures the model and returns what is printed, and the baseline that it makes.
func (o *gateOptions) judge(cmd *cobra.Command, a *app, path string, limits gate.Limits) (*gateObject, *gate.Baseline, error) {
	out := &gateObject{Schema: "afmq.gate/v1", Artifact: path, Data: o.data, Baseline: o.baseline}
	base, err := o.previous(out)
	if err != nil {
		return nil, nil, err
	}
	compute, err := o.compute.choose(false)
	if err != nil {
		return nil, nil, err
	}
	setting, err := o.setting(cmd, a, path, compute, base)
	if err != nil {
		return nil, nil, err
	}
	if base != nil {
		if d := base.Differs(&setting); d != "" {
			if err := o.incomparable(out, fault.Inputf(o.baseline, "%s", d)); err != nil {
				return nil, nil, err
			}
			base = nil
		}
	}
	subject, err := gateSubject(cmd.Context(), a, path)
	if err != nil {
		return nil, nil, err
	}
	if limits.BPW != nil && subject.BPW == nil {
		return nil, nil, fault.Inputf(path, "is a plain checkpoint; --max-bpw applies to artifacts only")
	}
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
	if out.Verdict, err = gate.Judge(o.baseline, base, now, limits); err != nil {
		return nil, nil, err
	}
	out.Setting, out.Model, out.Tokens, out.Windows = setting, subject, e.Tokens, len(e.Windows)
	out.NatsPerToken, out.KLMean = now.NatsPerToken, now.KLMean
	out.Seconds, out.TokensPerSecond = e.Seconds, e.TokensPerSecond
	return out, now, nil
}

// setting returns what the figures will depend on. What the flags leave open is that of the
// baseline, if there is one.
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
	if !changed("stride") && s.Protocol == base.Protocol {
		s.Stride = base.Stride
	}
	return s, nil
}

// gateSubject verifies an artifact, or identifies a checkpoint.
func gateSubject(ctx context.Context, a *app, path string) (gate.Subject, error) {
	if artifact.IsArtifact(path) {
		v, err := artifact.Verify(ctx, a.workers(), path, a.progress())
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
	in, err := openSubjects(a, out.Artifact, o.reference, o.data, &o.adapters)
	if err != nil {
		return nil, err
	}
	model, variants, reference, corpus := in.model, in.variants, in.reference, in.corpus
	if corpus.SHA256 != s.Data {
		return nil, infile.Changed(o.data)
	}
	if out.Overlap, err = checkOverlap(a, out.Artifact, corpus, o.allowOverlap); err != nil {
		return nil, err
	}
	for _, v := range variants { // one at most
		if err := checkTrained(a, corpus, v, o.allowOverlap); err != nil {
			return nil, err
		}
		digest, err := infile.Hash(filepath.Join(v.dir, adapter.WeightsFile))
		if err != nil {
			return nil, err
		}
		model, out.Adapter, subject.Adapter = v.model, v.dir, &digest
	}
	return eval.Run(ctx, a.workers().With(compute), model, reference, corpus, eval.Options{
		Protocol: s.Protocol, Ctx: s.Ctx, Stride: s.Stride, Progress: a.progress(),
	})
}

package gate

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"afmq/internal/disk"
	"afmq/internal/infile"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
)

// Run verifies an artifact, scores the text with it, and judges it against the limits and the
// recorded baseline; see [Judge]. With Update it records a new one. Errors of kind
// [fault.Input] are about a file: one that is not intact, a baseline of another setting, a text
// with too few windows or one that repeats itself; [fault.Usage] are about the options;
// [fault.Output] says that the baseline cannot be written. That the model is worse, or that the
// text cannot tell, is no error: see [Result.Decision].
func Run(ctx context.Context, opts Options) (*Result, error) {
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	opts.Pool, opts.Progress = pool, progress.Begin(opts.Progress, opts.Stages()...)
	if opts.ToolVersion == "" {
		opts.ToolVersion = "unknown"
	}
	if opts.AcceptWorse && !opts.Update {
		return nil, fault.Usagef("AcceptWorse needs Update: it decides whether a baseline is replaced")
	}
	if err := opts.Limits.check(); err != nil {
		return nil, err
	}
	if opts.Limits.divergence() && opts.Reference == "" {
		return nil, fault.Usagef("a limit of the divergence needs a reference")
	}
	if opts.Update {
		if err := opts.checkInputs(opts.Baseline); err != nil {
			return nil, err
		}
		if err := disk.CheckReplaceable(opts.Baseline); err != nil {
			return nil, err
		}
	}
	r := &run{opts: opts, out: &Result{}}
	now, err := r.judge(ctx)
	if err != nil {
		return nil, err
	}
	r.out.deciding = r.out.Checks
	if opts.AcceptWorse {
		r.out.deciding = limitChecks(r.out.Checks)
	}
	r.out.Decision = Combine(r.out.deciding)
	r.out.Kept = opts.Update && r.out.Decision != NoWorse && Combine(limitChecks(r.out.Checks)) == NoWorse
	if opts.Update && r.out.Decision == NoWorse {
		if err := now.Write(opts.Baseline); err != nil {
			return nil, err
		}
		r.out.Updated = true
		r.out.Accepted = r.uncompared || !r.out.Passed
	}
	return r.out, nil
}

// limitChecks returns the checks that do not compare with a baseline.
func limitChecks(checks []Check) []Check {
	var out []Check
	for _, c := range checks {
		if c.Name != NatsRise && c.Name != KLRise {
			out = append(out, c)
		}
	}
	return out
}

// run is one call of Run.
type run struct {
	opts       Options
	out        *Result
	uncompared bool // there is a baseline, but it cannot be compared with
}

// previous reads the baseline to compare with. With Update there may be none, and with
// AcceptWorse an unreadable one counts as none.
func (r *run) previous() (*Baseline, error) {
	if r.opts.Update {
		if _, err := os.Lstat(r.opts.Baseline); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	base, err := ReadBaseline(r.opts.Baseline)
	if err == nil || !r.opts.Update {
		return base, err
	}
	return nil, r.incomparable(err)
}

// incomparable returns err, the reason why a baseline cannot be compared with, or nil if
// AcceptWorse replaces it without a comparison.
func (r *run) incomparable(err error) error {
	if r.opts.AcceptWorse {
		r.uncompared = true
		return nil
	}
	var f *fault.Error
	if errors.As(err, &f) && f.Kind == fault.Input {
		if f.Hint != "" {
			return f.WithHint("%s; --update --accept-worse replaces it without a comparison", f.Hint)
		}
		return f.WithHint("--update --accept-worse replaces it without a comparison")
	}
	return err
}

// differs returns the reason why the figures of a setting cannot be compared with those of a
// baseline, or replace it; nil if they can.
func (r *run) differs(base *Baseline, now *Setting) *fault.Error {
	file := r.opts.Baseline
	if d := base.Differs(now); d != "" {
		return fault.Inputf(file, "%s", d).WithHint("use the files and options that it was made with")
	}
	switch {
	case !r.opts.Update:
	case base.KLMean != nil && now.Reference == nil:
		return fault.Inputf(file, "records divergences from a reference; an update without one would lose them").
			WithHint("give the reference with --reference")
	case base.KLMean == nil && r.opts.Limits.KLRise != nil:
		return fault.Inputf(file, "records no divergence that a rise could be measured against")
	}
	return nil
}

// limits returns the limits to judge by. An update may lose as much of the divergence as of
// the loss, unless the options set its margin.
func (r *run) limits(base, now *Baseline) Limits {
	l := r.opts.Limits
	if r.opts.Update && l.KLRise == nil && base != nil && base.KLMean != nil && now.KLMean != nil {
		margin := l.nats()
		l.KLRise = &margin
	}
	return l
}

// judge measures the model, judges it, and returns the baseline that it makes.
func (r *run) judge(ctx context.Context) (*Baseline, error) {
	o, out := &r.opts, r.out
	base, err := r.previous()
	if err != nil {
		return nil, err
	}
	setting, err := r.setting(ctx, base)
	if err != nil {
		return nil, err
	}
	if base != nil {
		if reason := r.differs(base, &setting); reason != nil {
			if err := r.incomparable(reason); err != nil {
				return nil, err
			}
			base = nil
		}
	}
	subject, err := r.subject(ctx)
	if err != nil {
		return nil, err
	}
	if o.Limits.BPW != nil && subject.BPW == nil {
		return nil, fault.Inputf(o.Artifact, "is a plain checkpoint; --max-bpw applies to artifacts only")
	}
	e, err := r.evaluate(ctx, setting, &subject)
	if err != nil {
		return nil, err
	}
	setting.Ctx, setting.Stride = e.Ctx, e.Stride
	if base != nil {
		out.BaselineNats, out.BaselineKL = &base.NatsPerToken, base.KLMean
		if base.KLMean != nil && o.Reference == "" {
			out.Warnings = append(out.Warnings, o.Baseline+": its divergence from the reference is not compared; give --reference to compare it")
		}
	}
	now, err := NewBaseline(o.Data, o.ToolVersion, setting, subject, e)
	if err != nil {
		return nil, err
	}
	if out.Verdict, err = Judge(o.Baseline, base, now, r.limits(base, now)); err != nil {
		return nil, err
	}
	out.Setting, out.Model, out.Tokens, out.Windows = setting, subject, e.Tokens, len(e.Windows)
	out.NatsPerToken, out.KLMean = now.NatsPerToken, now.KLMean
	out.Seconds, out.TokensPerSecond = e.Seconds, e.TokensPerSecond
	return now, nil
}

// setting returns what the figures will depend on. What the options leave open is that of the
// baseline, if there is one.
func (r *run) setting(ctx context.Context, base *Baseline) (s Setting, err error) {
	o := &r.opts
	if o.Ctx < 0 || o.Stride < 0 {
		return s, fault.Usagef("a context of %d and a stride of %d are not numbers of tokens", o.Ctx, o.Stride)
	}
	if s.Data, err = infile.Hash(o.Data); err != nil {
		return s, err
	}
	if s.Tokenizer, err = infile.Hash(filepath.Join(o.Artifact, artifact.TokenizerFile)); err != nil {
		if _, noModel := artifact.Describe(o.Artifact); noModel != nil {
			return s, noModel // which explains more
		}
		return s, err
	}
	if o.Reference != "" {
		digest, err := artifact.DigestCheckpoint(ctx, o.Pool, o.Reference, o.Progress)
		if err != nil {
			return s, err
		}
		s.Reference = &digest
	}
	s.Protocol, s.Compute, s.Ctx, s.Stride = o.Protocol, o.Arithmetic.String(), o.Ctx, o.Stride
	if base != nil {
		if s.Protocol == "" {
			s.Protocol = base.Protocol
		}
		if s.Ctx == 0 {
			s.Ctx = base.Ctx
		}
		if s.Stride == 0 && s.Protocol == base.Protocol {
			s.Stride = base.Stride
		}
	}
	if s.Protocol == "" {
		s.Protocol = eval.Chunk
	}
	s.Protocol, err = eval.ParseProtocol(string(s.Protocol))
	return s, err
}

// subject verifies an artifact, or identifies a checkpoint.
func (r *run) subject(ctx context.Context) (Subject, error) {
	o := &r.opts
	if artifact.IsArtifact(o.Artifact) {
		v, err := artifact.Verify(ctx, o.Artifact, artifact.VerifyOptions{Pool: o.Pool, Progress: o.Progress})
		if err != nil {
			return Subject{}, err
		}
		return Subject{Kind: "artifact", Digest: v.ContentHash, Bytes: v.Ledger.Total, BPW: &v.BPW.Projections}, nil
	}
	d, err := artifact.Describe(o.Artifact)
	if err != nil {
		return Subject{}, err
	}
	digest, err := artifact.DigestCheckpoint(ctx, o.Pool, o.Artifact, o.Progress)
	return Subject{Kind: d.Kind, Digest: digest, Bytes: d.WeightBytes}, err
}

// evaluate scores the text, with the adapter if there is one. It opens the artifact again,
// and so hashes what it loads again: the model that runs is the one that was verified.
func (r *run) evaluate(ctx context.Context, s Setting, subject *Subject) (*eval.Result, error) {
	o := &r.opts
	var adapters []eval.Adapter
	if o.Adapter != nil {
		adapters = []eval.Adapter{*o.Adapter}
	}
	in, err := eval.Open(ctx, eval.Options{
		Model: o.Artifact, Reference: o.Reference, Data: o.Data, Adapters: adapters,
		AllowUnbound: o.AllowUnbound, AllowOverlap: o.AllowOverlap, Pool: o.Pool, Progress: o.Progress,
	})
	if err != nil {
		return nil, err
	}
	if in.Corpus.SHA256 != s.Data {
		return nil, infile.Changed(o.Data)
	}
	if m := in.Model.Manifest; m != nil && m.ContentHash != subject.Digest {
		return nil, infile.Changed(o.Artifact)
	}
	if err := CheckRepetition(o.Data, in.Corpus.Repetition()); err != nil {
		return nil, err
	}
	r.out.Overlap, r.out.Warnings = in.Overlap, in.Warnings
	model := in.Model
	for _, v := range in.Variants { // one at most
		digest, err := infile.Hash(filepath.Join(v.Dir, adapter.WeightsFile))
		if err != nil {
			return nil, err
		}
		trained := eval.Overlap(v.Weights.Overlap(in.Corpus.SHA256, in.Corpus.IDs))
		model, subject.Adapter, r.out.Training = v.Model, &digest, &trained
	}
	return eval.Score(ctx, model, in.Corpus, eval.ScoreOptions{
		Protocol: s.Protocol, Ctx: s.Ctx, Stride: s.Stride, Reference: in.Reference,
		Pool: o.Pool.With(o.Arithmetic), Progress: o.Progress,
	})
}

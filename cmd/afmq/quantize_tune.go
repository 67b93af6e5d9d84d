package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/recovery"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// tuneFlags make quantize tune what it made.
type tuneFlags struct {
	tokens string
	data   []string
}

func (t *tuneFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.tokens, "tune", "", "then train the stored numbers on `N` tokens, as afmq tune does with its defaults")
	f.StringArrayVar(&t.data, "tune-data", nil, "`FILE` of text for --tune (.jsonl, text, or token ids as .safetensors); repeatable (default: that of --calib)")
}

// options returns the options of the tuning that follows a quantization; nil without --tune.
func (t *tuneFlags) options(f *pflag.FlagSet, q *quantize.Options, calib []string) (*recovery.TuneOptions, error) {
	if !f.Changed("tune") {
		if len(t.data) > 0 {
			return nil, fault.Usagef("--tune-data has no meaning without --tune")
		}
		return nil, nil
	}
	o := &recovery.TuneOptions{
		Teacher: q.Model, Out: q.Out, Data: t.data, Compute: q.Compute, Restart: q.Restart,
		SeqLen: q.Calibration.SeqLen, Seed: q.Calibration.Seed, Pool: q.Pool, ToolVersion: q.ToolVersion,
	}
	if o.Data == nil {
		o.Data = calib
	}
	if len(o.Data) == 0 || slices.Contains(o.Data, sensitivity.BuiltinText) {
		return nil, fault.Usagef("--tune needs text to train on: give --tune-data FILE")
	}
	for _, flag := range []string{"shard", "dry-run"} {
		if f.Changed(flag) {
			return nil, fault.Usagef("--tune and --%s exclude each other", flag).WithHint("give afmq tune the artifact afterwards")
		}
	}
	return o, setCounts([]count{{"tokens", t.tokens, func(n int64) { o.Tokens = n }}})
}

// quantizeAndTune quantizes to a directory beside opts.Out, whose name has the digest of the job, tunes
// what is there, and removes it. An interrupted command finds it again. The result of the quantization
// has what the manifest of the tuned artifact says; it is nil in an error.
func quantizeAndTune(ctx context.Context, opts quantize.Options, tune *recovery.TuneOptions) (*quantize.Result, *recovery.TuneResult, error) {
	if err := stage.CheckTarget(opts.Out, false); err != nil {
		return nil, nil, err
	}
	digest, err := quantize.JobDigest(ctx, opts)
	if err != nil {
		return nil, nil, err
	}
	out := filepath.Clean(opts.Out)
	tune.Artifact = filepath.Join(filepath.Dir(out), fmt.Sprintf(".%s.untuned-%s", filepath.Base(out), digest[:12]))
	if opts.Restart {
		if err := os.RemoveAll(tune.Artifact); err != nil {
			return nil, nil, fault.Writing(tune.Artifact, err)
		}
	}
	p := progress.Begin(opts.Progress, append(opts.Stages(), tune.Stages()...)...)
	opts.Out, opts.Progress, tune.Progress = tune.Artifact, p, p
	r := &quantize.Result{}
	if artifact.IsArtifact(opts.Out) {
		p.Notice(fmt.Sprintf("%s was quantized before, in %s", out, opts.Out))
	} else if r, err = quantize.Run(ctx, opts); err != nil {
		return nil, nil, err
	}
	tuned, err := recovery.Tune(ctx, *tune)
	if err != nil {
		return nil, nil, err
	}
	if err := os.RemoveAll(tune.Artifact); err != nil {
		return nil, nil, fault.Writing(tune.Artifact, err)
	}
	m, err := artifact.ReadManifest(tune.Out)
	if err != nil {
		return nil, nil, err
	}
	r.BPW, r.Bytes, r.Ledger, r.ContentHash, r.Layers = m.BPW, tuned.Bytes, m.Ledger, m.ContentHash, m.Plan.Modules
	r.DirectoryBytes = 0
	entries, err := os.ReadDir(tune.Out)
	if err != nil {
		return nil, nil, fault.Reading(tune.Out, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			r.DirectoryBytes += info.Size()
		}
	}
	if r.SourceBytes == 0 { // it was quantized before
		source, err := safetensors.OpenCheckpoint(tune.Teacher)
		if err != nil {
			return nil, nil, err
		}
		r.SourceBytes = source.Bytes()
		source.Close()
	}
	if m.Calibration != nil {
		r.CalibrationTokens = m.Calibration.Tokens
	}
	r.Seconds += tuned.Seconds
	r.PeakRSSBytes = max(r.PeakRSSBytes, tuned.PeakRSSBytes)
	return r, tuned, nil
}

// runAndTune quantizes and, with tune, tunes.
func runAndTune(ctx context.Context, opts quantize.Options, tune *recovery.TuneOptions) (*quantize.Result, *recovery.TuneResult, error) {
	if tune != nil {
		return quantizeAndTune(ctx, opts, tune)
	}
	r, err := quantize.Run(ctx, opts)
	return r, nil, err
}

// printTuned follows the result of a quantization.
func printTuned(w io.Writer, t *recovery.TuneResult) error {
	if t == nil {
		return nil
	}
	fmt.Fprintln(w)
	if err := printTuneFigures(w, t); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "tuned on %s tokens; stored is step %d of %d\n", thousands(t.Tokens), t.Step, t.Steps)
	return err
}

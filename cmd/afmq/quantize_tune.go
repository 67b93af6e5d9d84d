package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"afmq/internal/disk"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/recovery"
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
	var err error
	if o.Tokens, err = parseCount("tune", t.tokens); err != nil {
		return nil, err
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
	return o, nil
}

// untunedJob are the keys of the job whose state holds the artifact before it is tuned.
var untunedJob = []stage.Name{{Key: "quantize", Words: "what is quantized (the checkpoint, the text of --calib or a flag)"}}

// quantized is the result of the quantization, which is kept with the artifact.
type quantized struct {
	Result   *quantize.Result `json:"result"`
	Warnings []string         `json:"warnings"`
}

// quantizeAndTune quantizes to a staging directory of OUT.untuned, which is locked, and tunes the
// artifact there. An interrupted command finds it again. The result of the quantization has what the
// manifest of the tuned artifact says.
func quantizeAndTune(ctx context.Context, opts quantize.Options, tune *recovery.TuneOptions) (r *quantize.Result, tuned *recovery.TuneResult, err error) {
	out := filepath.Clean(opts.Out)
	if err := recovery.CheckTune(ctx, *tune); err != nil {
		return nil, nil, err
	}
	digest, err := quantize.JobDigest(ctx, opts)
	if err != nil {
		return nil, nil, err
	}
	job, err := json.Marshal(map[string]string{"job": "quantize and tune", "quantize": digest})
	if err != nil {
		return nil, nil, err
	}
	taken := stage.CheckTarget(opts.Out, false)
	if taken != nil && stage.Kept(out+".untuned") == "" {
		return nil, nil, taken
	}
	dir, err := stage.Open(out+".untuned", job, stage.Options{Restart: opts.Restart, Names: untunedJob})
	if err != nil {
		return nil, nil, err
	}
	if taken != nil { // a run that was killed after it had written the output
		dir.Discard()
		return nil, nil, taken
	}
	defer func() {
		if err != nil {
			dir.Keep()
		}
	}()
	p := progress.Begin(opts.Progress, append(opts.Stages(), tune.Stages()...)...)
	tune.Artifact = dir.StatePath("artifact")
	opts.Out, opts.Progress, tune.Progress = tune.Artifact, p, p
	if r, err = quantizeOnce(ctx, opts, out, dir.StatePath("result.json"), p); err != nil {
		return nil, nil, err
	}
	if tuned, err = recovery.Tune(ctx, *tune); err != nil {
		return nil, nil, err
	}
	if err := dir.Discard(); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	m, err := artifact.ReadManifest(tune.Out)
	if err != nil {
		return nil, nil, err
	}
	r.BPW, r.Bytes, r.Ledger, r.ContentHash, r.Layers = m.BPW, tuned.Bytes, m.Ledger, m.ContentHash, m.Plan.Modules
	entries, err := os.ReadDir(tune.Out)
	if err != nil {
		return nil, nil, fault.Reading(tune.Out, err)
	}
	r.DirectoryBytes = 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			r.DirectoryBytes += info.Size()
		}
	}
	r.Warnings = append(r.Warnings, tuned.Warnings...)
	r.Seconds += tuned.Seconds
	r.PeakRSSBytes = max(r.PeakRSSBytes, tuned.PeakRSSBytes)
	return r, tuned, nil
}

// quantizeOnce quantizes and saves the result, or returns that of an earlier run.
func quantizeOnce(ctx context.Context, opts quantize.Options, out, saved string, p progress.Reporter) (*quantize.Result, error) {
	var q quantized
	if data, err := os.ReadFile(saved); err == nil && json.Unmarshal(data, &q) == nil && q.Result != nil {
		p.Notice(out + " was quantized before; the artifact is in " + opts.Out)
		q.Result.Warnings = q.Warnings
		return q.Result, nil
	}
	if artifact.IsArtifact(opts.Out) { // of a run that was killed before it saved the result
		if err := os.RemoveAll(opts.Out); err != nil {
			return nil, fault.Writing(opts.Out, err)
		}
	}
	opts.Restart = false // the state was discarded as a whole
	r, err := quantize.Run(ctx, opts)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(quantized{r, r.Warnings})
	if err != nil {
		return nil, err
	}
	return r, disk.WriteFile(saved, data)
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

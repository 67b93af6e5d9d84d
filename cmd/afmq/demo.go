package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"afmq/internal/demo"
	"afmq/internal/disk"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/progress"
	"afmq/pkg/quantize"
	"afmq/pkg/recovery"
	"afmq/pkg/sensitivity"
)

const (
	demoTokens = 256 // maximum length of a text
	demoPrompt = "The old man looked at the sea and"
	demoSeed   = 1
)

// demoVolume is the amount of work; tests reduce it.
var demoVolume = struct {
	texts      int   // sampled for the evaluation
	trainTexts int   // sampled for calibration and training
	training   int64 // training tokens of the adapter
	initTokens int   // of them for the weights of its initialization
}{48, 160, 120000, recovery.DefaultInitTokens}

// demoRow is one model of the demo's table.
type demoRow struct {
	Name       string  `json:"name"`
	Bytes      int64   `json:"bytes"` // of model.safetensors, plus the adapter's weights if there is one
	BPW        float64 `json:"bpw"`   // of the projections
	Perplexity float64 `json:"perplexity"`
	KL         float64 `json:"kl_mean"` // to the 16-bit model, nats per token
	SameTop1   float64 `json:"same_top1"`
	Sentence   string  `json:"sentence"`
}

type demoObject struct {
	Schema string    `json:"schema"`
	Tokens int       `json:"tokens"` // scored
	Prompt string    `json:"prompt"`
	Models []demoRow `json:"models"`
}

func newDemoCommand(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Quantize and evaluate a small model embedded in this program",
		Long: `Quantizes the embedded model (1.07 M parameters, the architecture of Apple's on-device
model) three times: to 4 bits, to an average of 3.5 bits with a width for each module, and
to 2 bits, for which it also trains a recovery adapter. It verifies every artifact and
prints size, perplexity, divergence and a generated sentence of each. The 16-bit model
samples all text, with separate texts for calibration and training, and for evaluation.
On average, no other model predicts the evaluation text better than the 16-bit model.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), a, out) },
	}
	registerOut(cmd.Flags(), &out, outDir, "keep checkpoint, text, artifacts and adapter in a new `DIR`")
	return cmd
}

func runDemo(ctx context.Context, a *app, out string) error {
	dir, finish, err := demoDir(out)
	if err != nil {
		return err
	}
	complete := false
	defer func() { finish(complete) }()
	source := filepath.Join(dir, "afm-tiny")
	if err := demo.Extract(source); err != nil {
		return outputError(err)
	}
	jobs := demoJobs(a, source, dir)
	p := progress.Begin(unsaved{a.reporter}, demoStages(jobs)...)
	reference, err := infer.Open(ctx, source, infer.OpenOptions{Pool: a.workers(), Progress: p})
	if err != nil {
		return err
	}
	texts, err := reference.SampleTexts(ctx, a.workers(), demoVolume.texts, demoTokens, demoSeed, p)
	if err != nil {
		return err
	}
	train := filepath.Join(dir, demoText)
	if err := writeTraining(ctx, a, reference, train, p); err != nil {
		return err
	}
	corpus, err := eval.EncodeTexts("the sampled text", texts, reference.Tokenizer, reference.Config.Separator())
	if err != nil {
		return err
	}
	d, err := artifact.Describe(source)
	if err != nil {
		return err
	}
	o := demoObject{Schema: "afmq.demo/v1", Prompt: demoPrompt}
	add := func(name string, model *infer.Model, bytes int64, bpw float64) error {
		row, tokens, err := measure(ctx, a, reference, corpus, model, p)
		if err != nil {
			return err
		}
		row.Name, row.Bytes, row.BPW = name, bytes, bpw
		o.Models, o.Tokens = append(o.Models, row), tokens
		return nil
	}
	if err := add("16 bit", reference, d.WeightBytes, 16); err != nil {
		return err
	}
	for _, job := range jobs {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(job.Out), "afm-tiny-"), "bit") + " bit"
		job.Progress = p
		r, err := quantize.Run(ctx, job)
		if err != nil {
			return err
		}
		if _, err := artifact.Verify(ctx, job.Out, artifact.VerifyOptions{Pool: a.workers(), Progress: p}); err != nil {
			return err
		}
		// Verified above.
		model, err := infer.Open(ctx, job.Out, infer.OpenOptions{SkipVerify: true, Pool: a.workers(), Progress: p})
		if err != nil {
			return err
		}
		if err := add(name, model, r.Ledger.Total, r.BPW.Projections); err != nil {
			return err
		}
		if job.Bits != 2 {
			continue
		}
		adapter, err := trainDemo(ctx, model, demoTraining(a, source, job.Out, dir), p)
		if err != nil {
			return err
		}
		if err := add(name+" and adapter", model.WithAdapter(adapter), r.Ledger.Total+adapter.Bytes, r.BPW.Projections); err != nil {
			return err
		}
	}
	complete = true
	return a.print(o, func(w io.Writer) error { return printDemo(w, o, out) })
}

// demoText is the file for calibration and training.
const demoText = "train.jsonl"

// demoJobs returns the quantizations of the demo in dir.
func demoJobs(a *app, source, dir string) []quantize.Options {
	jobs := []quantize.Options{
		{Out: "afm-tiny-4bit", Bits: 4},
		{Out: "afm-tiny-3.5bit", Request: &sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 3.5}}},
		{Out: "afm-tiny-2bit", Bits: 2},
	}
	for i := range jobs {
		j := &jobs[i]
		j.Model, j.Out = source, filepath.Join(dir, j.Out)
		j.Calibration = sensitivity.CalibrationOptions{Files: []string{filepath.Join(dir, demoText)}, SeqLen: demoTokens}
		j.Pool, j.ToolVersion = a.workers(), version
	}
	return jobs
}

// demoTraining returns the training of the demo's adapter for a base in dir.
func demoTraining(a *app, source, base, dir string) recovery.Options {
	return recovery.Options{
		Artifact: base, Teacher: source, Data: []string{filepath.Join(dir, demoText)}, Out: filepath.Join(dir, "adapter"),
		Ranks: []int{8}, Tokens: demoVolume.training, InitTokens: demoVolume.initTokens, SeqLen: demoTokens / 2, BatchTokens: 1024,
		Pool: a.workers(), ToolVersion: version,
	}
}

// demoStages returns the stages of the demo.
func demoStages(jobs []quantize.Options) []string {
	stages := []string{infer.StageLoad, infer.StageSample, infer.StageSample, eval.StageEvaluate}
	for _, job := range jobs {
		stages = append(stages, job.Stages()...)
		stages = append(stages, artifact.StageVerify, infer.StageLoad, eval.StageEvaluate)
		if job.Bits == 2 {
			training := recovery.Options{Teacher: job.Model}
			stages = append(stages, training.Stages()...)
			stages = append(stages, eval.StageEvaluate)
		}
	}
	return stages
}

// unsaved is a reporter of jobs whose state does not outlive the command.
type unsaved struct{ progress.Reporter }

func (unsaved) Saved(string) {}

// writeTraining samples the file for calibration and training.
func writeTraining(ctx context.Context, a *app, m *infer.Model, path string, p progress.Reporter) error {
	texts, err := m.SampleTexts(ctx, a.workers(), demoVolume.trainTexts, demoTokens, demoSeed+1, p)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, text := range texts {
		if err := e.Encode(map[string]string{"text": text}); err != nil {
			return err
		}
	}
	return disk.WriteNewFile(path, b.Bytes())
}

// trainDemo trains an adapter of the base and opens it.
func trainDemo(ctx context.Context, base *infer.Model, opts recovery.Options, p progress.Reporter) (*adapter.Adapter, error) {
	opts.Progress = p
	r, err := recovery.Run(ctx, opts)
	if err != nil {
		return nil, err
	}
	return adapter.Open(filepath.Join(opts.Out, r.Adapters[0].Path), base.Dir, base.Config, false)
}

// demoDir returns the directory to work in and a function that removes it if it is temporary, or if
// its content is not complete: the demo resumes nothing, and needs a new directory.
func demoDir(out string) (string, func(complete bool), error) {
	if out == "" {
		dir, err := os.MkdirTemp("", "afmq-demo-")
		return dir, func(bool) { os.RemoveAll(dir) }, outputError(err)
	}
	if err := disk.MakeParent(out); err != nil {
		return "", nil, err
	}
	switch err := os.Mkdir(out, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return "", nil, disk.Taken(out, "already exists")
	case err != nil:
		return "", nil, fault.Writing(out, err)
	}
	return out, func(complete bool) {
		if !complete {
			os.RemoveAll(out)
		}
	}, nil
}

// measure evaluates a model on the corpus and generates a sentence.
func measure(ctx context.Context, a *app, reference *infer.Model, corpus *eval.Corpus, model *infer.Model, p progress.Reporter) (demoRow, int, error) {
	e, err := eval.Score(ctx, model, corpus, eval.ScoreOptions{Ctx: demoTokens, Reference: reference, Pool: a.workers(), Progress: p})
	if err != nil {
		return demoRow{}, 0, err
	}
	prompt := model.Tokenizer.Encode(demoPrompt, true).IDs
	g, err := model.Generate(ctx, prompt, infer.GenerateOptions{MaxTokens: 40, Pool: a.workers()})
	if err != nil {
		return demoRow{}, 0, err
	}
	return demoRow{Perplexity: e.Perplexity, KL: e.KL.Mean, SameTop1: e.SameTop1, Sentence: firstSentence(g.Text)}, e.Tokens, nil
}

// firstSentence cuts a text after its first full stop and joins its lines.
func firstSentence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if i := strings.IndexAny(text, ".!?"); i >= 0 {
		return text[:i+1]
	}
	return text
}

func printDemo(w io.Writer, o demoObject, out string) error {
	err := table(w, func(w io.Writer) {
		fmt.Fprintf(w, "\tsize\tbits/weight\tperplexity\tKL to 16 bit\tsame top\n")
		for _, m := range o.Models {
			fmt.Fprintf(w, "%s\t%s\t%.3f\t%.3f\t%.4f\t%.1f %%\n", m.Name, size(m.Bytes), m.BPW, m.Perplexity, m.KL, 100*m.SameTop1)
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nevaluated on %s tokens sampled from the 16-bit model;\nsame top is the share at which both have the same most likely token\n\n", thousands(int64(o.Tokens)))
	err = table(w, func(w io.Writer) {
		for _, m := range o.Models {
			fmt.Fprintf(w, "%s\t%s … %s\n", m.Name, o.Prompt, m.Sentence)
		}
	})
	if err != nil {
		return err
	}
	if out != "" {
		fmt.Fprintf(w, "\nkept in %s\n", out)
	}
	return nil
}

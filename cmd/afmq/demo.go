package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"afmq/internal/demo"
	"afmq/internal/fault"
	"afmq/pkg/infer"
	"afmq/pkg/quantize"
)

const (
	demoTexts  = 48  // texts that the model writes for its own evaluation
	demoTokens = 256 // tokens of each at most
	demoPrompt = "The old man looked at the sea and"
	demoSeed   = 1
)

// demoRow is one model of the demo's table.
type demoRow struct {
	Name       string  `json:"name"`
	Bytes      int64   `json:"bytes"` // model.safetensors
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
		Short: "Run the main job on the small model inside this program",
		Long: `Compresses the model that this program carries (1.07 M parameters in the shape of
Apple's on-device model) to 4 and to 2 bits, checks both artifacts, and shows
sizes, perplexity, divergence and a sentence from each. The text they are scored
on is written by the 16-bit model itself, so its perplexity there is the
exponential of its own entropy.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), a, out) },
	}
	cmd.Flags().StringVar(&out, "out", "", "keep the checkpoint and the artifacts in this new directory")
	return cmd
}

func runDemo(ctx context.Context, a *app, out string) error {
	dir, remove, err := demoDir(out)
	if err != nil {
		return err
	}
	defer remove()
	source := filepath.Join(dir, "afm-tiny")
	if err := demo.Extract(source); err != nil {
		return outputError(err)
	}
	reference, err := infer.Open(source, a.workers())
	if err != nil {
		return err
	}
	a.progress().Stage("writing a text with the 16-bit model", demoTexts, "texts")
	texts, err := reference.SampleTexts(ctx, a.workers(), demoTexts, demoTokens, demoSeed)
	if err != nil {
		return err
	}
	a.progress().Done()
	corpus, err := infer.EncodeTexts("the text of the 16-bit model", texts, reference.Tokenizer, reference.Config.Separator())
	if err != nil {
		return err
	}
	d, err := infer.Describe(source)
	if err != nil {
		return err
	}
	o := demoObject{Schema: "afmq.demo/v1", Prompt: demoPrompt}
	add := func(name, path string, bytes int64, bpw float64) error {
		row, tokens, err := measure(ctx, a, reference, corpus, path)
		if err != nil {
			return err
		}
		row.Name, row.Bytes, row.BPW = name, bytes, bpw
		o.Models, o.Tokens = append(o.Models, row), tokens
		return nil
	}
	if err := add("16 bit", source, d.WeightBytes, 16); err != nil {
		return err
	}
	for _, bits := range []int{4, 2} {
		path := filepath.Join(dir, fmt.Sprintf("afm-tiny-%dbit", bits))
		r, err := quantize.Run(ctx, a.workers(), quantize.Options{
			Model: source, Out: path, Bits: bits, RowScale: true, Progress: a.progress(), ToolVersion: version,
		})
		if err != nil {
			return err
		}
		if _, err := quantize.Verify(ctx, a.workers(), path, a.progress()); err != nil {
			return err
		}
		if err := add(fmt.Sprintf("%d bit", bits), path, r.Ledger.Total, r.BPW.Projections); err != nil {
			return err
		}
	}
	return a.print(o, func(w io.Writer) error { return printDemo(w, o, out) })
}

// demoDir returns the directory to work in, and how to leave it.
func demoDir(out string) (string, func(), error) {
	if out == "" {
		dir, err := os.MkdirTemp("", "afmq-demo-")
		return dir, func() { os.RemoveAll(dir) }, outputError(err)
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return "", nil, fault.Writing(out, err)
	}
	return out, func() {}, nil
}

// measure evaluates the model at path on the corpus and lets it write a sentence.
func measure(ctx context.Context, a *app, reference *infer.Model, corpus *infer.Corpus, path string) (demoRow, int, error) {
	model, err := infer.Open(path, a.workers())
	if err != nil {
		return demoRow{}, 0, err
	}
	e, err := infer.Evaluate(ctx, a.workers(), model, reference, corpus, infer.EvalOptions{Ctx: demoTokens, Progress: a.progress()})
	if err != nil {
		return demoRow{}, 0, err
	}
	prompt := model.Tokenizer.Encode(demoPrompt, true).IDs
	g, err := model.Generate(ctx, a.workers(), prompt, infer.GenerateOptions{MaxTokens: 40})
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
		fmt.Fprintf(w, "\tsize\tbits per weight\tperplexity\tKL to 16 bit\tsame top token\n")
		for _, m := range o.Models {
			fmt.Fprintf(w, "%s\t%s\t%.3f\t%.3f\t%.4f\t%.1f %%\n", m.Name, size(m.Bytes), m.BPW, m.Perplexity, m.KL, 100*m.SameTop1)
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nscored on %s tokens that the 16-bit model wrote itself\n\n", thousands(int64(o.Tokens)))
	for _, m := range o.Models {
		fmt.Fprintf(w, "%s: %s … %s\n", m.Name, o.Prompt, m.Sentence)
	}
	if out != "" {
		fmt.Fprintf(w, "\nkept in %s\n", out)
	}
	return nil
}

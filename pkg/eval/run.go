package eval

import (
	"context"
	"fmt"

	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
)

// Options are the options of [Run]. Model and Data are required.
type Options struct {
	Model     string    // directory of the checkpoint or artifact, or a GGUF file
	Data      string    // file of text; see [ReadTexts]
	Reference string    // model to compare with, as Model; empty for none
	Adapters  []Adapter // evaluated on Model, one by one

	AllowUnbound bool // take an adapter that does not name the artifact that it was trained on
	AllowOverlap bool // score a file that the artifact was calibrated on, or an adapter trained on
	SkipVerify   bool // do not hash the tensors of artifacts; see [infer.OpenOptions]

	Protocol            Protocol            // empty for Chunk
	Ctx                 int                 // tokens in a window; 0 for min(512, max_position_embeddings)
	Stride              int                 // tokens between the starts of windows, for protocol stride; 0 for ctx/2
	Arithmetic          compute.Arithmetic  // of the products of Model, in place of that of Pool
	ReferenceArithmetic *compute.Arithmetic // of the products of Reference; nil for Arithmetic

	Pool     *compute.Pool     // nil for Threads workers of its own
	Threads  int               // where Pool is nil; 0 for all cores
	Progress progress.Reporter // nil for none
}

// Stages returns the stages of Run, for the job that it is part of.
func (o *Options) Stages() []string {
	stages := []string{infer.StageLoad}
	checkpoint := !artifact.IsArtifact(o.Model)
	if o.Reference != "" {
		stages = append(stages, infer.StageLoad)
	}
	if checkpoint {
		stages = append(stages, artifact.StageHash)
	}
	if o.Reference != "" && !(checkpoint && o.Reference == o.Model) {
		stages = append(stages, artifact.StageHash)
	}
	return append(stages, StageEvaluate)
}

// Adapter is a LoRA adapter to evaluate.
type Adapter struct {
	Name string // in results and errors; unique
	Dir  string
}

// Evaluation is the result of [Run].
type Evaluation struct {
	*Result                  // of the model without adapter
	Adapters []AdapterResult // of the model with each adapter, in the order given
	Overlap  *Overlap        // with the text that the artifact was calibrated on; nil if it records none
	Warnings []string        // one line each, for people
	Corpus   *Corpus         // the text, as it was scored
	Identity Identity        // of everything that was read
}

// AdapterResult is the result of the model with one adapter.
type AdapterResult struct {
	Adapter
	*Result
	Identity AdapterIdentity
}

// Run scores a text file with a model, with the model under each adapter, and compares both
// with the reference if there is one; see [ScoreAll]. Artifacts are verified as they are
// loaded. Errors of kind [fault.Input] are about a file: one that cannot be read or is not
// intact, a reference with another tokenizer, an adapter of another artifact, a text that the
// artifact was calibrated on. Errors of kind [fault.Usage] are about the options.
func Run(ctx context.Context, opts Options) (*Evaluation, error) {
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	opts.Pool, opts.Progress = pool, progress.Begin(opts.Progress, opts.Stages()...)
	in, err := Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	identity, adapters, err := in.identify(ctx, &opts)
	if err != nil {
		return nil, err
	}
	models := []*infer.Model{in.Model}
	for _, v := range in.Variants {
		models = append(models, v.Model)
	}
	refArithmetic := opts.ReferenceArithmetic
	if refArithmetic == nil {
		refArithmetic = &opts.Arithmetic
	}
	results, err := ScoreAll(ctx, models, in.Corpus, ScoreOptions{
		Protocol: opts.Protocol, Ctx: opts.Ctx, Stride: opts.Stride,
		Reference: in.Reference, ReferenceArithmetic: refArithmetic,
		Pool: pool.With(opts.Arithmetic), Progress: opts.Progress,
	})
	if err != nil {
		return nil, err
	}
	e := &Evaluation{Result: results[0], Overlap: in.Overlap, Warnings: in.Warnings, Corpus: in.Corpus, Identity: identity}
	if w := results[0].NoiseWarning(); w != "" {
		e.Warnings = append(e.Warnings, w)
	}
	for i, v := range in.Variants {
		e.Adapters = append(e.Adapters, AdapterResult{v.Adapter, results[i+1], adapters[i]})
	}
	return e, nil
}

// Inputs are the files of an evaluation, read and checked.
type Inputs struct {
	Model     *infer.Model
	Variants  []Variant    // Model with each adapter
	Reference *infer.Model // nil for none
	Corpus    *Corpus
	Overlap   *Overlap // with the text that the artifact was calibrated on; nil if it records none
	Warnings  []string // one line each, for people
}

// Variant is a model with an adapter.
type Variant struct {
	Adapter
	Model   *infer.Model
	Weights *adapter.Adapter
}

// Open reads the files that an evaluation needs and makes the checks of [Run], without
// scoring. It uses none of the options about scoring.
func Open(ctx context.Context, opts Options) (*Inputs, error) {
	open := infer.OpenOptions{SkipVerify: opts.SkipVerify, Pool: opts.Pool, Threads: opts.Threads, Progress: opts.Progress}
	in := &Inputs{}
	var err error
	if in.Model, err = infer.Open(ctx, opts.Model, open); err != nil {
		return nil, err
	}
	if in.Variants, err = OpenAdapters(in.Model, opts.Adapters, opts.AllowUnbound); err != nil {
		return nil, err
	}
	in.Warnings = AdapterWarnings(in.Model, in.Variants)
	if opts.Reference != "" {
		if !ggufmodel.Is(opts.Model) && !ggufmodel.Is(opts.Reference) {
			if err := model.SameTokenizer(opts.Model, opts.Reference); err != nil {
				return nil, err
			}
		}
		open.Share = in.Model
		if in.Reference, err = infer.Open(ctx, opts.Reference, open); err != nil {
			return nil, err
		}
	}
	if in.Corpus, err = ReadCorpus(opts.Data, in.Model.Tokenizer, in.Model.Config.Separator()); err != nil {
		return nil, err
	}
	if ggufmodel.Is(opts.Model) || ggufmodel.Is(opts.Reference) {
		if err := in.checkTokens(); err != nil {
			return nil, err
		}
	}
	in.Warnings = append(in.Warnings, in.Corpus.Warnings...)
	return in, in.checkOverlap(opts.AllowOverlap)
}

// AdapterWarnings returns a line for each adapter whose binding to m proves less than it seems
// to: m is an artifact that was opened without verification, so that the adapter's base was
// compared with the content hash that manifest.json states, not with that of the weights.
func AdapterWarnings(m *infer.Model, variants []Variant) []string {
	if m.Manifest == nil || m.Verified {
		return nil
	}
	var out []string
	for _, v := range variants {
		if v.Weights.Base != "" {
			out = append(out, fmt.Sprintf("adapter %s was compared with the content hash in manifest.json only: the weights of %s were not verified", v.Name, m.Dir))
		}
	}
	return out
}

// OpenAdapters opens adapters for a model, whose weights they share. Two of one name are an
// error of kind [fault.Usage]; the others are those of [infer.Model.OpenAdapter].
func OpenAdapters(m *infer.Model, adapters []Adapter, allowUnbound bool) ([]Variant, error) {
	var out []Variant
	named := map[string]bool{}
	for _, a := range adapters {
		if named[a.Name] {
			return nil, fault.Usagef("two adapters are called %q", a.Name).WithHint("give each its own: --adapter NAME=DIR")
		}
		named[a.Name] = true
		weights, err := m.OpenAdapter(a.Dir, allowUnbound)
		if err != nil {
			return nil, err
		}
		out = append(out, Variant{a, m.WithAdapter(weights), weights})
	}
	return out, nil
}

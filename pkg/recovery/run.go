package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"afmq/internal/infile"
	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
)

// Schema is the version of recovery.json.
const Schema = "afmq.recovery/v1"

// Files in the directory that [Run] makes, beside those of the adapters.
const (
	RecordFile  = "recovery.json"
	MetricsFile = "metrics.jsonl"
	LossPlot    = "loss.svg"
	CurvePlot   = "curve.svg" // with more than one rank
)

// AdapterResult is one adapter and what it recovered, on the held-out text.
type AdapterResult struct {
	Rank   int    `json:"rank"`
	Path   string `json:"path"`   // of the state that did best, in the output directory
	Last   string `json:"last"`   // of the last state
	Bytes  int64  `json:"bytes"`  // of its adapter_model.safetensors
	Params int64  `json:"params"` // numbers in it
	Tokens int64  `json:"tokens"` // trained on
	Step   int64  `json:"step"`   // of the state that did best; 0 is the init
	// WithAdapter is bits per weight of the model, the adapter's included.
	WithAdapter float64 `json:"bpw_with_adapter"`

	// Divergence from the teacher, nats per token: without the adapter, with it as it was
	// initialized, and as it was trained. Null without a teacher.
	KLBefore *float64 `json:"kl_before"`
	KLInit   *float64 `json:"kl_init"`
	KLAfter  *float64 `json:"kl_after"`
	// Recovered is the share of the divergence that is gone.
	Recovered         *float64 `json:"recovered"`
	PerplexityBefore  float64  `json:"perplexity_before"`
	PerplexityInit    float64  `json:"perplexity_init"`
	PerplexityAfter   float64  `json:"perplexity_after"`
	PerplexityTeacher *float64 `json:"perplexity_teacher"`
}

// Record is what recovery.json says: what was trained on what, and what came of it. It
// holds nothing that differs from run to run.
type Record struct {
	Schema           string          `json:"schema"`
	Job              json.RawMessage `json:"job"`
	Adapters         []AdapterResult `json:"adapters"`
	Steps            int64           `json:"steps"`
	StepTokens       int             `json:"step_tokens"`
	TrainTokens      int             `json:"train_tokens"`      // in the data, held-out text aside
	ValidationTokens int             `json:"validation_tokens"` // scored
}

// Result is what Run made.
type Result struct {
	Record
	ResumedSteps    int64   `json:"resumed_steps"` // taken over from an interrupted run
	Seconds         float64 `json:"seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"` // trained on, all adapters together, evaluation included
	PeakRSSBytes    int64   `json:"peak_rss_bytes"`
}

// Run trains adapters. See the package's comment for what it promises.
func Run(ctx context.Context, pool *compute.Pool, opts Options) (*Result, error) {
	began := time.Now()
	if err := opts.check(); err != nil {
		return nil, err
	}
	r := &run{pool: pool, opts: &opts}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	job, err := r.job()
	if err != nil {
		return nil, err
	}
	dir, err := stage.Open(opts.Out, job, stage.Options{NeedBytes: r.needBytes(), Restart: opts.Restart})
	if err != nil {
		return nil, err
	}
	t := newTrainer(pool, &opts, r.data, r.base, r.teacher, r.students)
	t.dir = dir
	resumed, err := t.restore()
	if err != nil {
		dir.Keep() // what is left of the interrupted run is not this one's to remove
		return nil, err
	}
	res, err := r.train(ctx, t, resumed, job)
	if err = dir.End(err); err != nil {
		return nil, err
	}
	res.Seconds = time.Since(began).Seconds()
	res.PeakRSSBytes = rss.Peak()
	return res, nil
}

// run is a run with its input read.
type run struct {
	pool          *compute.Pool
	opts          *Options
	manifest      *artifact.Manifest
	teacherDigest string
	base, teacher *infer.Model
	from          *adapter.Adapter
	configs       []*adapter.Config
	data          *Data
	students      []*student
}

// open reads and checks everything that the run needs.
func (r *run) open(ctx context.Context) (err error) {
	o := r.opts
	if !artifact.IsArtifact(o.Artifact) {
		if _, err := os.Stat(o.Artifact); err != nil {
			return fault.Reading(o.Artifact, err)
		}
		return fault.Inputf(o.Artifact, "is no artifact: it has no %s", artifact.ManifestFile).WithHint("`afmq quantize` makes one")
	}
	if r.manifest, err = artifact.ReadManifest(o.Artifact); err != nil {
		return err
	}
	cfg, err := model.LoadConfig(o.Artifact)
	if err != nil {
		return err
	}
	if err := o.sequence(cfg.MaxPositions); err != nil {
		return err
	}
	if o.From == "" {
		if r.configs, err = o.configs(cfg); err != nil {
			return err
		}
	}
	if err := r.openTeacher(ctx, cfg); err != nil {
		return err
	}
	if r.base, err = infer.Open(ctx, o.Artifact, infer.OpenOptions{Pool: r.pool}); err != nil {
		return err
	}
	// The adapter will be bound to what the manifest says, so that must be true.
	if err := artifact.CheckTensors(ctx, r.pool, o.Artifact, artifact.ManifestFile, r.manifest.Tensors); err != nil {
		return err
	}
	if o.From != "" {
		if r.from, err = adapter.Open(o.From, o.Artifact, cfg, o.AllowUnbound); err != nil {
			return err
		}
		r.configs = []*adapter.Config{&r.from.Config}
		o.Ranks = []int{r.from.Config.Rank}
	}
	if r.data, err = readData(ctx, r.pool, o, r.base.Tokenizer, r.base.Config); err != nil {
		return err
	}
	for _, c := range r.configs {
		r.students = append(r.students, newStudent(r.pool, r.base.Config, c))
	}
	return nil
}

// openTeacher opens the teacher and checks that it is the model that the artifact was
// made from, or at least one that it can be compared with.
func (r *run) openTeacher(ctx context.Context, cfg *model.Config) error {
	o := r.opts
	if o.Teacher == "" {
		return nil
	}
	if err := model.SameTokenizer(o.Artifact, o.Teacher); err != nil {
		return err
	}
	teacher, err := infer.OpenWeights(ctx, o.Teacher, infer.OpenOptions{Pool: r.pool})
	if err != nil {
		return err
	}
	t := teacher.Config
	switch {
	case t.VocabSize != cfg.VocabSize:
		return fault.Inputf(o.Teacher, "the teacher has %d vocabulary entries, the artifact %d", t.VocabSize, cfg.VocabSize)
	case t.MaxPositions < o.SeqLen:
		return fault.Inputf(o.Teacher, "the teacher takes %d tokens, a sequence has %d", t.MaxPositions, o.SeqLen)
	}
	r.teacher = teacher
	if !o.AllowTeacher {
		if err := r.manifest.IsSource(ctx, r.pool, o.Teacher); err != nil {
			var fe *fault.Error
			if errors.As(err, &fe) {
				return fe.WithHint("--allow-teacher trains against another model with the same tokenizer")
			}
			return err
		}
		r.teacherDigest = r.manifest.Source.Digest
		return nil
	}
	if o.From == "" && o.Init != InitZero && !sameShape(t, cfg) {
		return fault.Inputf(o.Teacher, "init %s compares weights, and the teacher has other shapes than the artifact", o.Init).
			WithHint("give --init zero")
	}
	digest, err := artifact.DigestCheckpoint(ctx, r.pool, o.Teacher)
	r.teacherDigest = digest
	return err
}

func sameShape(a, b *model.Config) bool {
	x, y := a.Tensors(), b.Tensors()
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if fmt.Sprint(x[i]) != fmt.Sprint(y[i]) {
			return false
		}
	}
	return true
}

// job describes the run: everything that its result depends on.
func (r *run) job() ([]byte, error) {
	o := r.opts
	job := map[string]any{
		"job": "recover/v1", "tool_version": o.ToolVersion,
		"artifact": r.manifest.ContentHash, "teacher": r.teacherDigest, "data": r.data.Files,
		"ranks": o.Ranks, "loss": o.Loss, "mix": o.Mix, "temperature": o.Temperature,
		"tokens": o.Tokens, "seq_len": o.SeqLen, "batch_tokens": o.BatchTokens, "rate": o.Rate, "warmup": o.Warmup,
		"weight_decay": o.WeightDecay, "clip": o.Clip, "seed": o.Seed, "validation": o.Validation, "float32": o.Float32,
		"init_tokens": o.InitTokens, "compute": o.Compute.String(),
	}
	if o.From != "" {
		sum, err := infile.Hash(filepath.Join(o.From, adapter.WeightsFile))
		if err != nil {
			return nil, err
		}
		job["from"] = sum
	} else {
		job["init"] = o.Init
		job["alpha"], job["rslora"], job["targets"], job["rank_pattern"] = o.Alpha, o.RSLoRA, o.Targets, o.Pattern
	}
	return json.Marshal(job)
}

// needBytes is the space that the adapters and the state take.
func (r *run) needBytes() int64 {
	const slack = 1 << 20 // headers, metrics and plots
	n := int64(slack)
	for _, s := range r.students {
		n += int64(len(s.weights)) * 4 * (2 + 2*4)
	}
	return n
}

// train makes the steps that are left and writes what comes of them.
func (r *run) train(ctx context.Context, t *trainer, resumed bool, job []byte) (*Result, error) {
	if err := t.initialize(ctx, r.from, !resumed); err != nil {
		return nil, err
	}
	if !resumed {
		if err := t.prepare(ctx); err != nil {
			return nil, err
		}
		if err := t.save(); err != nil {
			return nil, err
		}
	}
	res := &Result{ResumedSteps: t.Step}
	began := time.Now()
	if err := t.run(ctx); err != nil {
		var bad *notFinite
		if errors.As(err, &bad) {
			return nil, errors.Join(err, r.rescue(t))
		}
		return nil, err
	}
	if d := time.Since(began).Seconds(); d > 0 {
		res.TokensPerSecond = float64(len(r.students)) * float64(t.tokens(t.steps-res.ResumedSteps)) / d
	}
	res.Record = Record{Schema: Schema, Job: job, Steps: t.steps, StepTokens: t.stepTokens(), TrainTokens: r.data.TrainTokens(), ValidationTokens: t.Base.Tokens}
	for i := range r.students {
		a, err := r.write(t, i)
		if err != nil {
			return nil, err
		}
		res.Adapters = append(res.Adapters, *a)
	}
	return res, r.writeRecord(t, &res.Record)
}

// write stores the best and the last state of one adapter.
func (r *run) write(t *trainer, i int) (*AdapterResult, error) {
	s, best, dir := r.students[i], t.Best[i], t.dir
	bestDir, lastDir := adapterDir(s.config.Rank)
	for name, weights := range map[string][]float32{bestDir: best.weights, lastDir: s.weights} {
		if err := dir.Mkdir(name); err != nil {
			return nil, err
		}
		if err := r.writeAdapter(dir.Path(name), s, weights); err != nil {
			return nil, err
		}
	}
	info, err := os.Stat(filepath.Join(dir.Path(bestDir), adapter.WeightsFile))
	if err != nil {
		return nil, err
	}
	params := int64(0)
	for _, spec := range r.base.Config.Tensors() {
		n := int64(1)
		for _, d := range spec.Shape {
			n *= int64(d)
		}
		params += n
	}
	bits := int64(16)
	if r.opts.Float32 {
		bits = 32
	}
	a := &AdapterResult{
		Rank: s.config.Rank, Path: bestDir, Last: lastDir, Bytes: info.Size(), Params: int64(len(s.weights)), Tokens: t.tokens(t.steps), Step: best.Step,
		WithAdapter:      r.manifest.BPW.Model + float64(bits*int64(len(s.weights)))/float64(params),
		PerplexityBefore: math.Exp(t.Base.Nats), PerplexityInit: math.Exp(t.Initial[i].Nats), PerplexityAfter: math.Exp(best.Score.Nats),
	}
	if r.teacher != nil {
		recovered := 1 - best.Score.KL/t.Base.KL
		a.KLBefore, a.KLInit, a.KLAfter, a.Recovered = &t.Base.KL, &t.Initial[i].KL, &best.Score.KL, &recovered
		a.PerplexityTeacher = perplexity(t.Teacher)
	}
	return a, nil
}

// writeAdapter stores weights laid out as the student's in a directory.
func (r *run) writeAdapter(dir string, s *student, weights []float32) error {
	a := &adapter.Adapter{Dir: dir, Config: *s.config, Base: r.manifest.ContentHash, Data: r.data.Files, Modules: s.values(r.pool, weights)}
	return adapter.Write(a, r.base.Config, r.opts.stored(), stage.WriteFileAtomic)
}

// rescue stores the best adapters so far beside the saved state, when a run cannot go on.
func (r *run) rescue(t *trainer) error {
	for i, s := range r.students {
		name, _ := adapterDir(s.config.Rank)
		dir := t.dir.StatePath(name)
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return fault.Writing(dir, err)
		}
		if err := r.writeAdapter(dir, s, t.Best[i].weights); err != nil {
			return err
		}
	}
	return nil
}

// writeRecord stores what the run says of itself.
func (r *run) writeRecord(t *trainer, record *Record) error {
	dir := t.dir
	text, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return err
	}
	if err := dir.WriteFile(RecordFile, append(text, '\n')); err != nil {
		return err
	}
	var lines bytes.Buffer
	e := json.NewEncoder(&lines)
	for _, m := range t.metrics {
		if err := e.Encode(m); err != nil {
			return err
		}
	}
	if err := dir.WriteFile(MetricsFile, lines.Bytes()); err != nil {
		return err
	}
	plot, err := lossPlot(t.metrics)
	if err != nil {
		return err
	}
	if err := dir.WriteFile(LossPlot, plot); err != nil {
		return err
	}
	if len(record.Adapters) < 2 || r.teacher == nil {
		return nil
	}
	if plot, err = curvePlot(record.Adapters); err != nil {
		return err
	}
	return dir.WriteFile(CurvePlot, plot)
}

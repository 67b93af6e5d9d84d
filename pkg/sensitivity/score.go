package sensitivity

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"afmq/internal/infile"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// DefaultBits are the widths of the reference recipe.
var DefaultBits = []int{2, 4}

// ScoreOptions say what Score does.
type ScoreOptions struct {
	Model       string // directory of the 16-bit checkpoint
	Method      Method // empty for DefaultMethod
	Bits        []int  // widths to score; empty for DefaultBits
	GroupRows   int
	RowScale    bool
	Calibration CalibrationOptions
	Samples     int // draws of each token's label for Fisher; 0 for 1
	Validate    int // modules whose divergence is measured besides
	Progress    progress.Reporter
	ToolVersion string
	Compute     compute.Arithmetic // of the model's products
}

// Check fills in the defaults. Errors are fault.Usage.
func (o *ScoreOptions) Check() error {
	if o.Method == "" {
		o.Method = DefaultMethod
	}
	if _, err := ParseMethod(string(o.Method)); err != nil {
		return err
	}
	if len(o.Bits) == 0 {
		o.Bits = DefaultBits
	}
	o.Bits = slices.Clone(o.Bits)
	slices.Sort(o.Bits)
	o.Bits = slices.Compact(o.Bits)
	if err := checkBits(o.Bits); err != nil {
		return fault.Usagef("%v", err)
	}
	if o.Samples == 0 {
		o.Samples = 1
	}
	if o.Progress == nil {
		o.Progress = progress.Silent
	}
	if o.ToolVersion == "" {
		o.ToolVersion = "unknown"
	}
	switch {
	case o.Samples < 1 || o.Samples > 1<<16:
		return fault.Usagef("%d draws of a label; it may be 1 to 65536", o.Samples)
	case o.GroupRows < 1 || o.GroupRows > maxGroupRows:
		return fault.Usagef("group rows is %d; it may be 1 to %d", o.GroupRows, maxGroupRows)
	case o.Validate < 0:
		return fault.Usagef("%d modules to validate", o.Validate)
	case (o.Method.NeedsText() || o.Validate > 0) && len(o.Calibration.Files) == 0:
		return fault.Usagef("method %s needs calibration text", o.Method)
	}
	return nil
}

// Journal keeps what is done across a crash; stage.Journal is one.
type Journal interface {
	Records() []json.RawMessage
	Append(v any) error
}

// Record is what a run of Score writes to its journal after each unit of work.
type Record struct {
	Score *unitRecord `json:"score"`
}

// unitRecord is one finished unit: of the scores, or of their validation.
type unitRecord struct {
	Validation bool           `json:"validation,omitempty"`
	Unit       int            `json:"unit"`
	Costs      []contribution `json:"costs"`
}

// Timing says how long the parts of a run took; resumed work is not in it.
type Timing struct {
	Seconds         float64 `json:"seconds"`
	ResumedUnits    int     `json:"resumed_units"`
	TokensPerSecond float64 `json:"tokens_per_second"` // calibration tokens over the time of the scores, 0 where some were resumed
}

// Score scores every projection of a checkpoint and writes the result to out, a file that
// must not exist. A run that is interrupted leaves its state in ".NAME.afmq" beside out, and
// the same call goes on from there; scores do not depend on how often that happened, nor
// on the number of threads. See Run of package quantize for which errors leave what.
func Score(ctx context.Context, pool *compute.Pool, out string, restart bool, opts ScoreOptions) (*Scores, *Timing, error) {
	if err := opts.Check(); err != nil {
		return nil, nil, err
	}
	in, err := openScoring(opts)
	if err != nil {
		return nil, nil, err
	}
	defer in.ckpt.Close()
	identity, err := in.identity(ctx, pool)
	if err != nil {
		return nil, nil, err
	}
	dir, err := stage.Open(out, identity, stage.Options{NeedBytes: 1 << 20, Restart: restart, File: true})
	if err != nil {
		return nil, nil, err
	}
	finished := false
	defer func() {
		if !finished {
			dir.Keep() // a panic
		}
	}()
	scores, timing, err := in.inStage(ctx, pool, dir)
	finished = true
	if err != nil {
		return nil, nil, dir.End(err)
	}
	data, err := scores.Encode()
	if err == nil {
		err = dir.CommitFile(data)
	}
	if err != nil {
		return nil, nil, dir.End(err)
	}
	return scores, timing, nil
}

func (in *scoring) inStage(ctx context.Context, pool *compute.Pool, dir *stage.Dir) (*Scores, *Timing, error) {
	j, err := dir.Journal()
	if err != nil {
		return nil, nil, err
	}
	return in.run(ctx, pool, j)
}

// ScoreWith is Score for a caller that has a journal and a checkpoint of its own and
// wants no file. opts.Calibration is not looked at; text is what was read from it.
func ScoreWith(ctx context.Context, pool *compute.Pool, ckpt *safetensors.Checkpoint, cfg *model.Config, rawConfig []byte, text *Calibration, j Journal, opts ScoreOptions) (*Scores, error) {
	in := &scoring{opts: opts, ckpt: ckpt, cfg: cfg, raw: rawConfig, text: text}
	s, _, err := in.run(ctx, pool, j)
	return s, err
}

// scoring is a run of Score once its input is open.
type scoring struct {
	opts ScoreOptions
	ckpt *safetensors.Checkpoint
	cfg  *model.Config
	raw  []byte // config.json
	text *Calibration
}

func openScoring(opts ScoreOptions) (*scoring, error) {
	if artifact.IsArtifact(opts.Model) {
		return nil, fault.Inputf(opts.Model, "is an afmq artifact: it is quantized already").
			WithHint("score the checkpoint that it was made from")
	}
	in := &scoring{opts: opts}
	var err error
	if in.cfg, err = model.LoadConfig(opts.Model); err != nil {
		return nil, err
	}
	path := filepath.Join(opts.Model, "config.json")
	if in.raw, err = infile.Read(path, maxFile); err != nil {
		return nil, err
	}
	t, err := model.OpenTokenizer(opts.Model, in.cfg)
	if err != nil {
		return nil, err
	}
	if len(opts.Calibration.Files) > 0 {
		if in.text, err = ReadCalibration(opts.Calibration, t, in.cfg); err != nil {
			return nil, err
		}
	}
	in.ckpt, err = safetensors.OpenCheckpoint(opts.Model)
	return in, err
}

// identity is what must be equal for a run to go on with another's state.
func (in *scoring) identity(ctx context.Context, pool *compute.Pool) ([]byte, error) {
	source, err := artifact.DigestCheckpoint(ctx, pool, in.opts.Model)
	if err != nil {
		return nil, err
	}
	shape, err := ReadShape(in.cfg, in.ckpt, in.opts.Model)
	if err != nil {
		return nil, err
	}
	tensors := map[string]string{}
	for name, t := range shape.DTypes {
		tensors[name] = t.String()
	}
	text := ""
	if in.text != nil {
		text = in.text.Record.Digest
	}
	return json.Marshal(struct {
		Job         string            `json:"job"`
		ToolVersion string            `json:"tool_version"`
		Method      Method            `json:"method"`
		Bits        []int             `json:"bits"`
		GroupRows   int               `json:"group_rows"`
		RowScale    bool              `json:"row_scale"`
		Samples     int               `json:"samples"`
		Validate    int               `json:"validate"`
		Calibration string            `json:"calibration"`
		Seed        int64             `json:"seed"`
		Config      string            `json:"config"`
		Source      string            `json:"source"`
		Tensors     map[string]string `json:"tensors"`
		Compute     string            `json:"compute"`
	}{"sensitivity/v1", in.opts.ToolVersion, in.opts.Method, in.opts.Bits, in.opts.GroupRows, in.opts.RowScale,
		in.opts.Samples, in.opts.Validate, text, in.opts.Calibration.Seed, string(in.raw), source, tensors, in.opts.Compute.String()})
}

// run does the work and returns the scores.
func (in *scoring) run(ctx context.Context, pool *compute.Pool, j Journal) (*Scores, *Timing, error) {
	o := in.opts
	w := &workshop{
		pool: pool, models: pool.With(o.Compute), ckpt: in.ckpt, text: in.text, bits: o.Bits, group: o.GroupRows, scaled: o.RowScale,
		seed: o.Calibration.Seed, samples: o.Samples,
	}
	if err := w.findModules(in.cfg); err != nil {
		return nil, nil, err
	}
	if in.text != nil {
		var err error
		if w.model, err = infer.OpenWeights(ctx, o.Model, infer.OpenOptions{Pool: pool}); err != nil {
			return nil, nil, err
		}
	}
	timing := &Timing{}
	began := time.Now()
	costs, resumed, err := in.work(ctx, w, newEstimator(o.Method, w), j, false, nil)
	if err != nil {
		return nil, nil, err
	}
	timing.Seconds, timing.ResumedUnits = time.Since(began).Seconds(), resumed
	if in.text != nil && resumed == 0 {
		timing.TokensPerSecond = float64(in.text.Tokens()) / timing.Seconds
	}
	s, err := in.scores(w, costs)
	if err != nil {
		return nil, nil, err
	}
	if o.Validate > 0 {
		if s.Validation, err = in.validate(ctx, w, j, s); err != nil {
			return nil, nil, err
		}
	}
	return s, timing, nil
}

// work runs the units of an estimator that the journal does not have; only those in
// which lists where it is not nil. It returns the costs, [module][option].
func (in *scoring) work(ctx context.Context, w *workshop, e estimator, j Journal, validation bool, which []int) (costs [][]float64, resumed int, err error) {
	done := map[int][]contribution{}
	for _, line := range j.Records() {
		var r Record
		if json.Unmarshal(line, &r) == nil && r.Score != nil && r.Score.Validation == validation && w.fits(r.Score.Costs) {
			done[r.Score.Unit] = r.Score.Costs
		}
	}
	if which == nil {
		for u := range e.units() {
			which = append(which, u)
		}
	}
	name := "score by " + string(in.opts.Method)
	if validation {
		name = "validate"
	}
	in.opts.Progress.Stage(name, int64(len(which)), "units")
	defer in.opts.Progress.Done()
	costs = make([][]float64, len(w.modules))
	for i := range costs {
		costs[i] = make([]float64, len(w.bits))
	}
	for _, u := range which {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		part, ok := done[u]
		if ok {
			resumed++
		} else {
			if part, err = e.run(ctx, u); err != nil {
				return nil, 0, err
			}
			for _, c := range part {
				if math.IsNaN(c.Cost) || math.IsInf(c.Cost, 0) {
					return nil, 0, notFinite(&w.modules[c.Module], w.bits[c.Option], c.Cost)
				}
			}
			if err := j.Append(Record{&unitRecord{validation, u, part}}); err != nil {
				return nil, 0, err
			}
		}
		for _, c := range part {
			costs[c.Module][c.Option] += c.Cost
		}
		in.opts.Progress.Advance(1)
	}
	return costs, resumed, nil
}

// fits reports whether contributions are about modules and widths that there are.
func (w *workshop) fits(c []contribution) bool {
	return !slices.ContainsFunc(c, func(c contribution) bool {
		return c.Module < 0 || c.Module >= len(w.modules) || c.Option < 0 || c.Option >= len(w.bits)
	})
}

// scores puts the result together.
func (in *scoring) scores(w *workshop, costs [][]float64) (*Scores, error) {
	shape, err := ReadShape(in.cfg, in.ckpt, in.opts.Model)
	if err != nil {
		return nil, err
	}
	s := &Scores{
		Schema: ScoresSchema, ToolVersion: in.opts.ToolVersion, Method: in.opts.Method, Unit: in.opts.Method.unit(),
		Bits: in.opts.Bits, GroupRows: in.opts.GroupRows, RowScale: in.opts.RowScale, Compute: in.opts.Compute.String(),
	}
	if in.opts.Method == Fisher {
		s.Samples = in.opts.Samples
	}
	if in.opts.Method.NeedsText() {
		s.Calibration = &in.text.Record
	}
	s.Config = string(in.raw)
	for i := range w.modules {
		m := &w.modules[i]
		s.Modules = append(s.Modules, ModuleScore{m.name(), m.spec.Shape, costs[i]})
	}
	for _, spec := range in.cfg.Tensors() {
		s.Tensors = append(s.Tensors, TensorInfo{spec.Name, shape.DTypes[spec.Name].String(), spec.Shape})
	}
	return s, nil
}

func (m Method) unit() string {
	switch m {
	case KL, Fisher:
		return "nats per token"
	case Hessian:
		return "squared output error per token"
	}
	return "squared weight error"
}

// validate measures the divergence of some modules, drawn without repetition, and
// compares.
func (in *scoring) validate(ctx context.Context, w *workshop, j Journal, s *Scores) (*Validation, error) {
	r := rand.New(rand.NewPCG(uint64(in.opts.Calibration.Seed), 1))
	picks := r.Perm(len(w.modules))[:min(in.opts.Validate, len(w.modules))]
	slices.Sort(picks)
	measured, _, err := in.work(ctx, w, &klEstimator{w: w}, j, true, picks)
	if err != nil {
		return nil, err
	}
	v := &Validation{}
	for _, p := range picks {
		v.Modules = append(v.Modules, ValidatedModule{s.Modules[p].Name, measured[p]})
	}
	for o, bits := range s.Bits {
		var a, b []float64
		sumA, sumB := 0.0, 0.0
		for _, p := range picks {
			a, b = append(a, s.Modules[p].Costs[o]), append(b, measured[p][o])
			sumA, sumB = sumA+a[len(a)-1], sumB+b[len(b)-1]
		}
		vb := ValidatedBits{Bits: bits}
		if rho := spearman(a, b); !math.IsNaN(rho) {
			vb.Spearman = rho
		}
		if (s.Method == Fisher || s.Method == KL) && sumB > 0 {
			vb.Ratio = sumA / sumB
		}
		v.ByBits = append(v.ByBits, vb)
	}
	return v, nil
}

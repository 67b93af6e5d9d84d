package sensitivity

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"time"

	"afmq/internal/infile"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// Result is the outcome of [Score].
type Result struct {
	Scores   *Scores
	Warnings []string // one line each, for people
	Timing
}

// Timing is the time that scoring took. Work of an earlier, interrupted run does not count.
type Timing struct {
	Seconds         float64 `json:"seconds"`           // wall-clock time of the scores, validation excluded
	ResumedUnits    int     `json:"resumed_units"`     // units of work taken from an interrupted run
	TokensPerSecond float64 `json:"tokens_per_second"` // calibration tokens over Seconds; 0 for a resumed run
}

// Score scores every projection of a checkpoint and, if opts.Out is set, writes the scores
// to that file.
//
// With Out, an interrupted run leaves its state in ".NAME.afmq" in the same directory, and
// the same call resumes it. Scores depend neither on interruptions nor on the number of
// threads. Only a run of the same job resumes: same weights, config, tokenizer, text,
// options and tool version.
//
// Errors are of kind fault.Usage (invalid options), fault.Infeasible (what the export target does
// not have), fault.Input (a checkpoint, a text or the state of another job) and fault.Output (Out
// exists or cannot be written). Those of the first three kinds leave no state behind, except that the state of another job
// is kept.
func Score(ctx context.Context, opts Options) (*Result, error) {
	j, done, err := openJob(opts)
	if err != nil {
		return nil, err
	}
	defer done()
	if opts.Out != "" {
		return j.runInStage(ctx)
	}
	log := &unitLog{journal: opts.Journal, state: opts.State}
	if log.journal != nil {
		if log.identity, err = j.identity(ctx); err != nil {
			return nil, err
		}
	}
	return j.run(ctx, log)
}

// runInStage runs the job with its state kept beside the output file, and writes the file.
func (j *scoreJob) runInStage(ctx context.Context) (*Result, error) {
	identity, err := j.identity(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := stage.Open(j.opts.Out, identity, stage.Options{NeedBytes: 1 << 20, Restart: j.opts.Restart, File: true, Names: jobNames})
	if err != nil {
		return nil, err
	}
	finished := false
	defer func() {
		if !finished {
			dir.Keep() // a panic
		}
	}()
	r, err := func() (*Result, error) {
		journal, err := dir.Journal()
		if err != nil {
			return nil, err
		}
		j.opts.Scratch = dir.StatePath("")
		return j.run(ctx, &unitLog{journal, identity, dir.State()})
	}()
	finished = true
	if err != nil {
		return nil, dir.End(err)
	}
	data, err := r.Scores.Encode()
	if err == nil {
		err = dir.CommitFile(data)
	}
	if err != nil {
		return nil, dir.End(err)
	}
	return r, nil
}

// scoreJob is a call of Score.
type scoreJob struct {
	opts      Options
	pool      *compute.Pool // in float32
	ckpt      *safetensors.Checkpoint
	cfg       *model.Config
	rawConfig []byte // config.json
	tokenizer string // SHA-256 of tokenizer.json
	text      *Calibration
	opened    bool // ckpt is this job's own
}

// openJob checks the options and opens the job. done ends what it began.
func openJob(opts Options) (j *scoreJob, done func(), err error) {
	if err := opts.Check(); err != nil {
		return nil, nil, err
	}
	pool, release := compute.Workers(opts.Pool, opts.Threads)
	j = &scoreJob{opts: opts, pool: pool.With(compute.F32)}
	done = func() {
		j.close()
		release()
	}
	if err := j.open(); err != nil {
		done()
		return nil, nil, err
	}
	return j, done, nil
}

// open opens the checkpoint and the text, or takes those of the caller.
func (j *scoreJob) open() (err error) {
	dir := j.opts.Model
	j.text = j.opts.Text
	readsText := j.text == nil && len(j.opts.Calibration.Files) > 0
	if src := j.opts.Source; src != nil {
		j.ckpt, j.cfg, j.rawConfig, j.tokenizer = src.Checkpoint, src.Config, src.RawConfig, src.TokenizerDigest()
		if readsText {
			j.text, err = ReadCalibration(j.opts.Calibration, src.Tokenizer, src.Config)
		}
		return err
	}
	if artifact.IsArtifact(dir) {
		return fault.Inputf(dir, "is an afmq artifact, which is quantized already").
			WithHint("score the checkpoint that it was made from")
	}
	if j.cfg, err = model.LoadConfig(dir); err != nil {
		return err
	}
	if err := j.checkTarget(); err != nil {
		return err
	}
	if j.rawConfig, err = infile.Read(filepath.Join(dir, artifact.ConfigFile), maxFile); err != nil {
		return err
	}
	t, err := model.OpenTokenizer(dir, j.cfg)
	if err != nil {
		return err
	}
	data, err := infile.Read(filepath.Join(dir, artifact.TokenizerFile), artifact.MaxCopiedBytes)
	if err != nil {
		return err
	}
	j.tokenizer = infile.SHA256(data)
	if readsText {
		if j.text, err = ReadCalibration(j.opts.Calibration, t, j.cfg); err != nil {
			return err
		}
	}
	j.ckpt, err = safetensors.OpenCheckpoint(dir)
	j.opened = err == nil
	return err
}

// checkTarget checks the model and the stored form against the rules of the export target.
func (j *scoreJob) checkTarget() error {
	exports, err := exportTarget(j.opts.ExportTarget)
	if err != nil || exports == nil {
		return err
	}
	widths, err := Widths(j.cfg, j.opts.Bits[0], nil) // a target has palettes
	if err != nil {
		return err
	}
	return CheckTarget(exports, "", &Shape{Config: j.cfg}, Storage{j.opts.GroupRows, !j.opts.NoRowScale}, widths)
}

func (j *scoreJob) close() {
	if j.opened {
		j.ckpt.Close()
	}
}

// run computes the scores.
func (j *scoreJob) run(ctx context.Context, log *unitLog) (r *Result, err error) {
	defer compute.Recover(&err)
	o := j.opts
	s, err := j.newScorer(ctx)
	if err != nil {
		return nil, err
	}
	defer s.closeText()
	began := time.Now()
	r = &Result{}
	if j.text != nil {
		r.Warnings = j.text.Warnings
	}
	costs, err := j.runUnits(ctx, s, newEstimator(o.Method, s), log, false, nil, &r.ResumedUnits)
	if err != nil {
		return nil, err
	}
	r.Seconds = time.Since(began).Seconds()
	if o.Method.NeedsText() && r.ResumedUnits == 0 {
		r.TokensPerSecond = float64(j.text.Tokens()) / r.Seconds
	}
	if r.Scores, err = j.scores(s, costs); err != nil {
		return nil, err
	}
	if o.Validate > 0 {
		if r.Scores.Validation, err = j.validate(ctx, s, log, r.Scores); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// newScorer returns the scorer of the job. The caller closes its text.
func (j *scoreJob) newScorer(ctx context.Context) (*scorer, error) {
	o := &j.opts
	pool := j.pool.WithContext(ctx)
	s := &scorer{
		pool: pool, models: pool.With(o.Compute), progress: o.Progress, ckpt: j.ckpt, cfg: j.cfg, text: j.text,
		widths: optionWidths(o.Bits, o.Forms), group: o.GroupRows, scaled: !o.NoRowScale, seed: j.seed(), samples: o.Samples,
		method: o.Method, memory: o.Memory, validated: o.Validate,
	}
	if o.Ends {
		s.ends = endWidths(endBits(o.Bits))
	}
	if err := s.findModules(j.cfg, o.Model); err != nil {
		return nil, err
	}
	if o.needsText() {
		if err := s.openText(o, j.pool); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// runUnits runs the units of an estimator that the log does not have; only those of which
// unless it is nil. It returns the costs, [module][option], and adds to resumed the number
// of units that the log had.
func (j *scoreJob) runUnits(ctx context.Context, s *scorer, e estimator, log *unitLog, validation bool, which []int, resumed *int) ([][]float64, error) {
	return j.runEach(ctx, s, e, log, validation, which, resumed, nil)
}

// runEach is runUnits, which calls keep, unless it is nil, with the contributions of each unit.
func (j *scoreJob) runEach(ctx context.Context, s *scorer, e estimator, log *unitLog, validation bool, which []int, resumed *int, keep func(unit int, c []Contribution)) ([][]float64, error) {
	done := log.finished(validation)
	if which == nil {
		for u := range e.units() {
			which = append(which, u)
		}
	}
	b := unitBar{progress: j.opts.Progress, e: e, state: log.state, all: len(which)}
	for _, u := range which {
		b.total += e.work(u)
		if s.fits(done[u]) {
			b.before += e.work(u)
			b.done++
		}
	}
	if b.done < b.all {
		if err := e.prepare(ctx); err != nil {
			return nil, err
		}
	}
	b.start(validation)
	defer j.opts.Progress.Done()
	costs := s.noCosts()
	for _, u := range which {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := done[u]
		if s.fits(part) {
			*resumed++
		} else {
			var err error
			if part, err = e.run(ctx, u); err != nil {
				return nil, err
			}
			for _, c := range part {
				if math.IsNaN(c.Cost) || math.IsInf(c.Cost, 0) {
					return nil, notFinite(&s.modules[c.Module], s.width(&s.modules[c.Module], c.Option), c.Cost)
				}
			}
			if err := log.append(&UnitRecord{validation, u, part}); err != nil {
				return nil, err
			}
			b.add(log.journal != nil)
		}
		if keep != nil {
			keep(u, part)
		}
		for _, c := range part {
			costs[c.Module][c.Option] += c.Cost
		}
	}
	return costs, nil
}

// noCosts returns costs of 0 for every module and option.
func (s *scorer) noCosts() [][]float64 {
	costs := make([][]float64, len(s.modules))
	for i := range costs {
		costs[i] = make([]float64, len(s.options(&s.modules[i])))
	}
	return costs
}

// fits reports whether there are contributions, and all are to modules and widths of this job.
func (s *scorer) fits(c []Contribution) bool {
	return len(c) > 0 && !slices.ContainsFunc(c, func(c Contribution) bool {
		return c.Module < 0 || c.Module >= len(s.modules) || c.Option < 0 || c.Option >= len(s.options(&s.modules[c.Module]))
	})
}

// scores assembles the result.
func (j *scoreJob) scores(s *scorer, costs [][]float64) (*Scores, error) {
	shape, err := ReadShape(j.cfg, j.ckpt, j.opts.Model)
	if err != nil {
		return nil, err
	}
	out := &Scores{
		Schema: ScoresSchema, ToolVersion: j.opts.ToolVersion, Method: j.opts.Method, Unit: j.opts.Method.unit(),
		Bits: j.opts.Bits, Forms: j.opts.Forms, GroupRows: j.opts.GroupRows, RowScale: !j.opts.NoRowScale, Compute: j.opts.Compute.String(),
	}
	if j.opts.Method == Fisher {
		out.Samples = j.opts.Samples
	}
	if j.opts.Method.NeedsText() {
		out.Calibration = &j.text.Record
	}
	out.Config = string(j.rawConfig)
	for i := range s.modules {
		m := &s.modules[i]
		if m.end {
			out.Ends = append(out.Ends, EndScore{m.name(), m.spec.Shape, endBits(j.opts.Bits), costs[i]})
			continue
		}
		out.Modules = append(out.Modules, ModuleScore{m.name(), m.spec.Shape, costs[i]})
	}
	for _, spec := range j.cfg.Tensors() {
		out.Tensors = append(out.Tensors, TensorInfo{spec.Name, shape.DTypes[spec.Name].String(), spec.Shape})
	}
	return out, nil
}

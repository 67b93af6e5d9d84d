package quantize

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"afmq/internal/memory"
	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/export/target"
	"afmq/pkg/progress"
	"afmq/pkg/sensitivity"
)

// Result describes the artifact that Run wrote.
type Result struct {
	BPW            artifact.BitsPerWeight  `json:"bpw"`             //
	Bytes          int64                   `json:"bytes"`           // of model.safetensors
	DirectoryBytes int64                   `json:"directory_bytes"` // of all files but the model card
	SourceBytes    int64                   `json:"source_bytes"`    // of the checkpoint's safetensors files
	Ledger         artifact.Ledger         `json:"ledger"`          // adds up to Bytes
	ContentHash    string                  `json:"content_hash"`    // hex; see artifact.ContentHash
	Layers         []artifact.ModuleRecord `json:"layers"`          // every matrix in canonical order
	Plan           *sensitivity.Plan       `json:"plan,omitempty"`  // the plan that decided the widths; nil without one
	ResumedModules int                     `json:"resumed_modules"` // tensors of the model kept from an interrupted run
	// CalibrationTokens is the number of tokens of calibration text; 0 without any.
	CalibrationTokens int      `json:"calibration_tokens,omitempty"`
	Seconds           float64  `json:"seconds"`
	PeakRSSBytes      int64    `json:"peak_rss_bytes"` // of the process so far, mapped pages included; 0 where the system does not report it
	Warnings          []string `json:"-"`              // one line each, for people
}

// Run quantizes a checkpoint into an artifact. The package comment says what it promises.
//
// Errors that a user can act on are *fault.Error. Those of kind fault.Usage (options that
// exclude each other, an override that matches no module), fault.Input (a checkpoint that
// cannot be quantized) and fault.Infeasible (a target below the smallest possible size, an
// artifact that the export target cannot run) leave nothing behind. Saved state of another job,
// or state whose source tensors changed, is fault.Input too; that state is kept. After an error of kind fault.Output or a
// cancelled context the saved state is kept, and the same call resumes from it.
func Run(ctx context.Context, opts Options) (*Result, error) {
	began := time.Now()
	if err := opts.check(); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	src, err := artifact.OpenSource(ctx, opts.Model)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	r := &setup{opts: opts, src: src}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	if err := r.identify(ctx, pool); err != nil {
		return nil, err
	}
	dir, err := r.open(opts.Out)
	if err != nil {
		return nil, err
	}
	res, err := r.fill(ctx, pool, dir, (*job).finish)
	if err != nil {
		return nil, err
	}
	res.Seconds = time.Since(began).Seconds()
	res.PeakRSSBytes = rss.Peak()
	return res, nil
}

// setup is a run up to the point where every module has a width.
type setup struct {
	opts   Options
	src    *artifact.Source
	shape  *sensitivity.Shape
	text   *sensitivity.Calibration     // nil without calibration
	stats  *sensitivity.Stats           // nil without statistics
	made   *sensitivity.Plan            // for a request, from the scores of the statistics
	widths map[string]sensitivity.Width // nil until the modules are scored
	most   int64                        // upper bound of the bytes of model.safetensors, while widths is nil
	id     []byte                       // the identity of the run, as JSON
	warn   []string                     // one line each, for people
	state  string                       // path of the saved state, for messages
	// scratch is the directory for hidden states that do not fit in memory.
	scratch string
	digest  string // of the checkpoint, where the identity has it

	outputs *sensitivity.Stats // of the gradients at outputs; nil without

	exchange *exchange // nil unless shards compensate a matrix together
	sharded  bool      // the run is a part of a job, whose parts must be of equal weights
	job      *job      // nil while widths is
}

// prepare does everything that needs no output directory, which is all but the scores. An
// infeasible target is an error before the calibration text is read.
func (r *setup) prepare() (err error) {
	if r.shape, err = sensitivity.ReadShape(r.src.Config, r.src.Checkpoint, r.src.Dir); err != nil {
		return err
	}
	if r.opts.Stats != "" {
		if err := r.openStats(); err != nil {
			return err
		}
	}
	switch o := &r.opts; {
	case o.Plan != nil:
		r.widths, err = o.Plan.Widths(o.PlanFile, r.shape)
	case o.Request != nil && r.stats != nil:
		err = r.planFromStats()
	case o.Request != nil:
		err = r.prepareRequest()
	default:
		r.widths, err = r.fixedWidths()
	}
	if err == nil {
		err = r.checkTarget()
	}
	if err != nil || len(r.opts.Calibration.Files) == 0 {
		return err
	}
	if r.text, err = sensitivity.ReadCalibration(r.opts.Calibration, r.src.Tokenizer, r.src.Config); err != nil {
		return err
	}
	r.warn = append(r.warn, r.text.Warnings...)
	return nil
}

// fixedWidths returns the widths that the options state.
func (r *setup) fixedWidths() (widths map[string]sensitivity.Width, err error) {
	if r.opts.Form == "" {
		return sensitivity.Widths(r.src.Config, r.opts.Bits, r.opts.Overrides)
	}
	widths, notes, err := sensitivity.FormWidths(r.src.Config, r.opts.Form, r.opts.Overrides)
	r.warn = append(r.warn, notes...)
	return widths, err
}

// checkTarget checks widths that are known against the rules of the export target. Those of a
// request are checked with it.
func (r *setup) checkTarget() error {
	if r.opts.ExportTarget == "" || r.widths == nil {
		return nil
	}
	t, err := target.Named(r.opts.ExportTarget)
	if err != nil {
		return err
	}
	return sensitivity.CheckTarget(t, r.opts.PlanFile, r.shape, r.opts.storage(), r.widths)
}

// prepareRequest checks that the target of a request can be reached.
func (r *setup) prepareRequest() (err error) {
	if r.most, err = sensitivity.Feasible(r.shape, r.opts.storage(), *r.opts.Request); err != nil {
		return err
	}
	excess, err := sensitivity.Excess(r.shape, r.opts.storage(), *r.opts.Request)
	if excess != "" {
		r.warn = append(r.warn, excess)
	}
	return err
}

// identify sets the identity of the run, and its plan if the widths are known.
func (r *setup) identify(ctx context.Context, pool *compute.Pool) (err error) {
	if r.id, err = r.identity(ctx, pool); err != nil || r.widths == nil {
		return err
	}
	return r.newJob()
}

// open opens the saved state of an interrupted run of this job for a target, or creates new state.
func (r *setup) open(target string) (*stage.Dir, error) {
	need := r.most + 1<<20
	if r.job != nil {
		need = r.job.needBytes()
	}
	return stage.Open(target, r.id, stage.Options{NeedBytes: need, Restart: r.opts.Restart, Names: jobNames})
}

// plan scores the modules and makes the plan of a request. Otherwise it returns the plan of
// the options, if any.
func (r *setup) plan(ctx context.Context, pool *compute.Pool, journal *stage.Journal) (*sensitivity.Plan, error) {
	if r.widths != nil {
		return cmp.Or(r.made, r.opts.Plan), nil
	}
	scores, err := r.score(ctx, pool, journal)
	if err != nil {
		return nil, err
	}
	p, err := sensitivity.MakePlan(scores, *r.opts.Request)
	if err != nil {
		return nil, err
	}
	if r.widths, err = p.Widths(r.opts.Out, r.shape); err != nil {
		return nil, err
	}
	r.warn = append(r.warn, p.Notes...)
	return p, r.newJob()
}

// score scores the modules for a request.
func (r *setup) score(ctx context.Context, pool *compute.Pool, journal *stage.Journal) (*sensitivity.Scores, error) {
	if r.opts.scoresOutputs() {
		return r.outputs.Scores, nil
	}
	opts := r.opts.scoring()
	if err := opts.Check(); err != nil {
		return nil, err
	}
	opts.Pool, opts.Source, opts.Text, opts.Journal, opts.State, opts.Scratch, opts.Digest = pool, r.src, r.text, journal, r.state, r.scratch, r.digest
	scored, err := sensitivity.Score(ctx, opts)
	if err != nil {
		return nil, err
	}
	return scored.Scores, nil
}

// runBackward sets the statistics of outputs, which it collects in the saved state if need be.
func (r *setup) runBackward(ctx context.Context, pool *compute.Pool, dir *stage.Dir) (err error) {
	if r.opts.Compensate == artifact.LossNorm {
		r.outputs = r.stats
	}
	if !r.opts.backward() {
		return nil
	}
	opts := r.opts.scoring()
	opts.Method, opts.Out, opts.Restart = sensitivity.Fisher, dir.StatePath(outputsName), false
	opts.Pool, opts.Source, opts.Text, opts.Digest = pool, r.src, r.text, r.digest
	r.outputs, _, err = sensitivity.CollectOutputs(ctx, opts, !r.opts.scoresOutputs())
	return err
}

// outputsName is the directory of the statistics of outputs in the saved state.
const outputsName = "outputs"

// newJob plans the run with the widths.
func (r *setup) newJob() (err error) {
	if r.job, err = newJob(r.src, r.opts, r.text, r.widths, r.id); err != nil {
		return err
	}
	r.job.stats = r.stats
	return nil
}

// fill writes the content of dir and publishes it. finish writes all files but the weights.
func (r *setup) fill(ctx context.Context, pool *compute.Pool, dir *stage.Dir, finish func(*job, *stage.Dir, []record, artifact.FileDigest) (*Result, error)) (res *Result, err error) {
	finished := false
	defer func() {
		if !finished {
			dir.Keep() // a panic
		}
	}()
	r.state, r.scratch = dir.State(), dir.StatePath("")
	p := r.opts.Progress
	var plan *sensitivity.Plan
	journal, err := dir.Journal()
	if err == nil {
		err = r.runBackward(ctx, pool, dir)
	}
	if err == nil {
		plan, err = r.plan(ctx, pool, journal)
	}
	if err != nil {
		finished = true
		return nil, dir.End(err)
	}
	j := r.job
	saved, err := j.loadState(ctx, pool, dir, journal.Records(), p)
	if err != nil {
		// The state may belong to another checkpoint; keep it.
		finished = true
		dir.Keep()
		return nil, err
	}
	defer p.Done()
	var states *memory.Store
	pl := &pipeline{job: j, pool: pool.WithContext(ctx), progress: p, journal: journal, state: r.state}
	pl.outputs = r.outputs
	if r.stats != nil && j.opts.compensates() {
		pl.stats = &statistics{pool: pl.pool, stats: r.stats, runs: j.runs()}
	}
	if j.opts.walks() {
		work := j.walkWork()
		states = memory.NewStore(j.stateMemory(), dir.StatePath(""))
		defer states.Close()
		pl.text = newCalibrator(pl.pool, j.opts.Compute, j.src.Config, j.text, states, j.runs(), func() { p.Advance(work) })
	}
	if r.exchange != nil {
		pl.exchange = r.exchange
		pl.exchange.pool, pl.exchange.progress = pl.pool, p
	}
	weights, err := pl.makeWeights(ctx, dir, saved)
	if err == nil {
		res, err = finish(j, dir, pl.records, weights)
	}
	finished = true
	if states != nil {
		states.Close() // its files are in the directory that End removes
	}
	if err = dir.End(err); err != nil {
		return nil, err
	}
	res.ResumedModules, res.Plan, res.Warnings = pl.resumed, plan, r.warn
	if r.text != nil {
		res.CalibrationTokens = r.text.Tokens()
	}
	return res, nil
}

// makeWeights writes model.safetensors and returns its digest.
func (pl *pipeline) makeWeights(ctx context.Context, dir *stage.Dir, saved savedState) (artifact.FileDigest, error) {
	path := dir.Path(artifact.WeightsFile)
	digest := artifact.FileDigest{Name: artifact.WeightsFile, Bytes: pl.job.total}
	if err := pl.openWriter(path, saved); err != nil {
		if pl.out != nil {
			pl.out.Keep()
		}
		return digest, err
	}
	pl.resumed = len(pl.records)
	total, done := pl.job.totalWork(pl.resumed)
	if pl.resumed > 0 {
		pl.progress.Notice(fmt.Sprintf("resuming from %s: %s are done", pl.state, pl.job.count(pl.resumed)))
		pl.savedCount()
	}
	pl.progress.Stage(progress.Stage{Name: StageQuantize, Work: total, Done: done})
	pl.progress.Status(pl.job.count(pl.resumed))
	var err error
	if pl.text != nil {
		err = pl.installSaved(path)
	}
	if err == nil {
		err = pl.run(ctx)
	}
	if err != nil {
		pl.out.Keep()
		return digest, err
	}
	digest.SHA256 = hex.EncodeToString(pl.fileHash.Sum(nil))
	return digest, pl.out.Close()
}

// finish writes every file except for the weights, the model card included.
func (j *job) finish(dir *stage.Dir, records []record, weights artifact.FileDigest) (*Result, error) {
	if err := dir.WriteFile(artifact.ConfigFile, j.config); err != nil {
		return nil, err
	}
	for _, c := range j.src.Copies {
		if err := artifact.CopyFile(j.src.Dir, c, dir.WriteFile); err != nil {
			return nil, err
		}
	}
	m, err := j.manifest(records, weights)
	if err != nil {
		return nil, err
	}
	manifest, sum, err := m.Encode()
	if err != nil {
		return nil, err
	}
	if err := dir.WriteFile(artifact.ManifestFile, manifest); err != nil {
		return nil, err
	}
	if err := dir.WriteFile(artifact.ManifestDigestFile, sum); err != nil {
		return nil, err
	}
	if err := dir.WriteFile(artifact.CardFile, m.Card(artifact.CheckpointCard(j.src.Dir))); err != nil {
		return nil, err
	}
	res := &Result{
		BPW: m.BPW, Bytes: j.total, SourceBytes: j.src.Checkpoint.Bytes(), Ledger: m.Ledger,
		ContentHash: m.ContentHash, Layers: m.Plan.Modules, DirectoryBytes: int64(len(manifest) + len(sum)),
	}
	for _, f := range m.Files {
		res.DirectoryBytes += f.Bytes
	}
	return res, nil
}

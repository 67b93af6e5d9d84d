package quantize

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"afmq/internal/infile"
	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/sensitivity"
)

// Result is what Run made.
type Result struct {
	BPW            artifact.BitsPerWeight `json:"bpw"`             //
	Bytes          int64                  `json:"bytes"`           // of model.safetensors
	DirectoryBytes int64                  `json:"directory_bytes"` // of all files
	SourceBytes    int64                  `json:"source_bytes"`    // of the checkpoint's safetensors files
	Ledger         artifact.Ledger        `json:"ledger"`          // adds up to Bytes
	ContentHash    string                 `json:"content_hash"`    // hex; see infer.ContentHash
	Layers         []artifact.PlanModule  `json:"layers"`          // every matrix in canonical order
	Plan           *sensitivity.Plan      `json:"plan,omitempty"`  // that the bits come from; nil without one
	ResumedModules int                    `json:"resumed_modules"` // tensors of the model taken over from an interrupted run
	// CalibrationTokens is how much text was looked at; 0 without any.
	CalibrationTokens int     `json:"calibration_tokens,omitempty"`
	Seconds           float64 `json:"seconds"`
	PeakRSSBytes      int64   `json:"peak_rss_bytes"` // of the process so far, mapped pages included; 0 where the system does not say
}

// Run quantizes a checkpoint into an artifact. See the package's comment for
// what it promises.
//
// Errors of kind fault.Usage (an override that matches nothing) and fault.Input
// (a checkpoint that cannot be quantized, or state of another job) leave nothing
// behind, except that state of another job is left to its owner; errors of kind
// fault.Output and a cancelled context leave what the same call can go on from.
func Run(ctx context.Context, pool *compute.Pool, opts Options) (*Result, error) {
	began := time.Now()
	if err := opts.check(); err != nil {
		return nil, err
	}
	src, err := artifact.OpenSource(ctx, opts.Model)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	r := &request{opts: opts, src: src}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	dir, err := r.open(ctx, pool)
	if err != nil {
		return nil, err
	}
	res, err := r.fill(ctx, pool, dir)
	if err != nil {
		return nil, err
	}
	res.Seconds = time.Since(began).Seconds()
	res.PeakRSSBytes = rss.Peak()
	return res, nil
}

// request is a run before every module has its bits.
type request struct {
	opts   Options
	src    *artifact.Source
	shape  *sensitivity.Shape
	text   *sensitivity.Calibration     // nil without calibration
	widths map[string]sensitivity.Width // nil until the modules are scored
	most   int64                        // bytes that model.safetensors may take, while widths is nil
	job    *job                         // nil while widths is
}

// prepare does what can be done before anything is written: everything but the scores.
// A target out of reach is refused before the calibration text is read.
func (r *request) prepare() (err error) {
	if r.shape, err = sensitivity.ReadShape(r.src.Config, r.src.Checkpoint, r.src.Dir); err != nil {
		return err
	}
	switch o := &r.opts; {
	case o.Plan != nil:
		r.widths, err = o.Plan.Widths(o.PlanFile, r.shape)
	case o.Request != nil:
		r.most, err = sensitivity.Feasible(r.shape, o.storage(), *o.Request)
	default:
		r.widths, err = sensitivity.Widths(r.src.Config, o.Bits, o.Overrides)
	}
	if err != nil || len(r.opts.Calibration.Files) == 0 {
		return err
	}
	r.text, err = sensitivity.ReadCalibration(r.opts.Calibration, r.src.Tokenizer, r.src.Config)
	return err
}

// open takes up or sets up the state of the run.
func (r *request) open(ctx context.Context, pool *compute.Pool) (*stage.Dir, error) {
	weights := ""
	if r.widths == nil { // scores in the journal are of these weights
		var err error
		if weights, err = artifact.DigestCheckpoint(ctx, pool, r.src.Dir); err != nil {
			return nil, err
		}
	}
	id, err := identity(r.src, r.opts, r.text, r.widths, weights)
	if err != nil {
		return nil, err
	}
	need := r.most + 1<<20
	if r.widths != nil {
		if r.job, err = newJob(r.src, r.opts, r.text, r.widths); err != nil {
			return nil, err
		}
		need = r.job.needBytes()
	}
	return stage.Open(r.opts.Out, id, stage.Options{NeedBytes: need, Restart: r.opts.Restart})
}

// plan scores the modules and makes the plan, if every module has not its bits yet.
func (r *request) plan(ctx context.Context, pool *compute.Pool, journal *stage.Journal) (*sensitivity.Plan, error) {
	if r.widths != nil {
		return r.opts.Plan, nil
	}
	opts := r.opts.scoring()
	if err := opts.Check(); err != nil {
		return nil, err
	}
	opts.Pool, opts.Source, opts.Text, opts.Journal = pool, r.src, r.text, journal
	scored, err := sensitivity.Score(ctx, opts)
	if err != nil {
		return nil, err
	}
	p, err := sensitivity.MakePlan(scored.Scores, *r.opts.Request)
	if err != nil {
		return nil, err
	}
	if r.widths, err = p.Widths(r.opts.Out, r.shape); err != nil {
		return nil, err
	}
	r.job, err = newJob(r.src, r.opts, r.text, r.widths)
	return p, err
}

// fill makes the content of dir and publishes it.
func (r *request) fill(ctx context.Context, pool *compute.Pool, dir *stage.Dir) (res *Result, err error) {
	finished := false
	defer func() {
		if !finished {
			dir.Keep() // a panic: leave what there is
		}
	}()
	p := r.opts.Progress
	var plan *sensitivity.Plan
	journal, err := dir.Journal()
	if err == nil {
		plan, err = r.plan(ctx, pool, journal)
	}
	if err != nil {
		finished = true
		return nil, dir.End(err)
	}
	j := r.job
	e, err := j.takeOver(ctx, pool, dir, journal.Records(), p)
	if err != nil {
		// The state is of another checkpoint, or nobody could tell: not ours to
		// throw away.
		finished = true
		dir.Keep()
		return nil, err
	}
	defer p.Done()
	pl := &pipeline{job: j, pool: pool, progress: p, journal: journal}
	if j.opts.Compensate == artifact.GPTQ {
		pl.text = newCalibrated(pool, j.opts.Compute, j.src.Config, j.text)
	}
	weights, err := pl.makeWeights(ctx, dir, e)
	if err == nil {
		res, err = j.finish(dir, pl.records, weights)
	}
	finished = true
	if err = dir.End(err); err != nil {
		return nil, err
	}
	res.ResumedModules, res.Plan = pl.taken, plan
	if r.text != nil {
		res.CalibrationTokens = r.text.Tokens()
	}
	return res, nil
}

// makeWeights writes model.safetensors and returns its digest.
func (pl *pipeline) makeWeights(ctx context.Context, dir *stage.Dir, e earlier) (artifact.FileDigest, error) {
	path := dir.Path(artifact.WeightsFile)
	digest := artifact.FileDigest{Name: artifact.WeightsFile, Bytes: pl.job.total}
	if err := pl.openWriter(path, e); err != nil {
		if pl.out != nil {
			pl.out.Keep()
		}
		return digest, err
	}
	pl.taken = len(pl.records)
	if pl.text != nil {
		if err := pl.installTaken(path); err != nil {
			pl.out.Keep()
			return digest, err
		}
	}
	var left int64
	for i := pl.taken; i < len(pl.job.items); i++ {
		left += pl.job.items[i].sourceBytes()
	}
	pl.progress.Stage("quantize", left, "B")
	if err := pl.run(ctx); err != nil {
		pl.out.Keep()
		return digest, err
	}
	digest.SHA256 = hex.EncodeToString(pl.fileHash.Sum(nil))
	return digest, pl.out.Close()
}

// finish writes everything beside the weights.
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
	res := &Result{
		BPW: m.BPW, Bytes: j.total, SourceBytes: j.src.Checkpoint.Bytes(), Ledger: m.Ledger,
		ContentHash: m.ContentHash, Layers: m.Plan.Modules, DirectoryBytes: int64(len(manifest) + len(sum)),
	}
	for _, f := range m.Files {
		res.DirectoryBytes += f.Bytes
	}
	return res, nil
}

// manifest describes the finished artifact.
func (j *job) manifest(records []record, weights artifact.FileDigest) (*artifact.Manifest, error) {
	m := &artifact.Manifest{
		Schema: artifact.ManifestSchema, ToolVersion: j.opts.ToolVersion, Arithmetic: j.opts.Compute.String(),
		Tokenizer: j.src.TokenizerDigest(),
		Plan: artifact.Plan{
			Bits: j.opts.Bits, GroupRows: j.opts.GroupRows, RowScale: j.opts.RowScale, Compensation: j.opts.Compensate,
		},
		Files: append([]artifact.FileDigest{
			weights,
			{Name: artifact.ConfigFile, Bytes: int64(len(j.config)), SHA256: infile.SHA256(j.config)},
		}, j.src.Copies...),
	}
	if j.text != nil {
		m.Calibration, m.Seed = &j.text.Record, j.text.Record.Seed
	}
	var source []artifact.TensorDigest
	byName := map[string]record{}
	for i, r := range records {
		m.Tensors = append(m.Tensors, r.Tensors...)
		source = append(source, r.Source...)
		byName[j.items[i].Spec.Name] = r
	}
	m.Source = artifact.NewSourceDigest(infile.SHA256(j.src.RawConfig), source)
	layout, err := artifact.StoredLayout(j.src.Config, j.opts.GroupRows, m.Tensors)
	if err != nil {
		return nil, fmt.Errorf("describing the artifact: %w", err)
	}
	for i := range layout {
		if st := &layout[i]; len(st.Spec.Shape) == 2 {
			r := byName[st.Spec.Name]
			pm := artifact.NewPlanModule(st, relativeError(r.SquaredError, r.SquaredNorm))
			pm.OutputError, pm.Warning = r.OutputError, r.Warning
			m.Plan.Modules = append(m.Plan.Modules, pm)
		}
	}
	m.BPW = artifact.MeasureBits(layout)
	if m.Ledger, err = artifact.NewLedger(m.Tensors, j.total); err != nil {
		return nil, fmt.Errorf("describing the artifact: %w", err)
	}
	if m.Ledger.Container != j.header {
		return nil, fault.Writing(j.opts.Out, fmt.Errorf("the ledger does not add up: container of %d bytes, header of %d", m.Ledger.Container, j.header))
	}
	return m, nil
}

// relativeError is ‖Ŵ−W‖/‖W‖; a matrix of zeros that stays one has no error.
func relativeError(squaredErr, squaredNorm float64) float64 {
	if squaredErr == 0 {
		return 0
	}
	return math.Sqrt(squaredErr / squaredNorm)
}

package quantize

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"afmq/internal/fault"
	"afmq/internal/kernel"
	"afmq/internal/stage"
	"afmq/pkg/infer"
	"afmq/pkg/sensitivity"
)

// Result is what Run made.
type Result struct {
	BPW            infer.BitsPerWeight `json:"bpw"`             //
	Bytes          int64               `json:"bytes"`           // of model.safetensors
	DirectoryBytes int64               `json:"directory_bytes"` // of all files
	SourceBytes    int64               `json:"source_bytes"`    // of the checkpoint's safetensors files
	Ledger         infer.Ledger        `json:"ledger"`          // adds up to Bytes
	ContentHash    string              `json:"content_hash"`    // hex; see infer.ContentHash
	Layers         []infer.PlanModule  `json:"layers"`          // every matrix in canonical order
	ResumedModules int                 `json:"resumed_modules"` // tensors of the model taken over from an interrupted run
	Seconds        float64             `json:"seconds"`         //
	PeakRSSBytes   int64               `json:"peak_rss_bytes"`  // of the process so far, mapped pages included; 0 where the system does not say
}

// Run quantizes a checkpoint into an artifact. See the package's comment for
// what it promises.
//
// Errors of kind fault.Usage (an override that matches nothing) and fault.Input
// (a checkpoint that cannot be quantized, or state of another job) leave nothing
// behind, except that state of another job is left to its owner; errors of kind
// fault.Output and a cancelled context leave what the same call can go on from.
func Run(ctx context.Context, pool *kernel.Pool, opts Options) (*Result, error) {
	began := time.Now()
	if err := opts.check(); err != nil {
		return nil, err
	}
	src, err := openSource(ctx, opts.Model)
	if err != nil {
		return nil, err
	}
	defer src.close()
	var text *sensitivity.Calibration
	if len(opts.Calibration.Files) > 0 {
		if text, err = sensitivity.ReadCalibration(opts.Calibration, src.tokenizer, src.cfg); err != nil {
			return nil, err
		}
	}
	j, err := newJob(src, opts, text)
	if err != nil {
		return nil, err
	}
	dir, err := j.open()
	if err != nil {
		return nil, err
	}
	res, err := j.fill(ctx, pool, dir)
	if err != nil {
		return nil, err
	}
	res.Seconds = time.Since(began).Seconds()
	res.PeakRSSBytes = peakRSS()
	return res, nil
}

// fill makes the content of dir and publishes it.
func (j *job) fill(ctx context.Context, pool *kernel.Pool, dir *stage.Dir) (res *Result, err error) {
	finished := false
	defer func() {
		if !finished {
			dir.Keep() // a panic: leave what there is
		}
	}()
	p := j.opts.Progress
	journal, err := dir.Journal()
	if err != nil {
		finished = true
		return nil, dir.End(err)
	}
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
	if j.opts.Compensate == GPTQ {
		pl.text = newCalibrated(pool, j.src.cfg, j.text)
	}
	weights, err := pl.makeWeights(ctx, dir, e)
	if err == nil {
		res, err = j.finish(dir, pl.records, weights)
	}
	finished = true
	if err = dir.End(err); err != nil {
		return nil, err
	}
	res.ResumedModules = pl.taken
	return res, nil
}

// makeWeights writes model.safetensors and returns its digest.
func (pl *pipeline) makeWeights(ctx context.Context, dir *stage.Dir, e earlier) (infer.FileDigest, error) {
	path := dir.Path(infer.WeightsFile)
	digest := infer.FileDigest{Name: infer.WeightsFile, Bytes: pl.job.total}
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
func (j *job) finish(dir *stage.Dir, records []record, weights infer.FileDigest) (*Result, error) {
	if err := dir.WriteFile(configFile, j.config); err != nil {
		return nil, err
	}
	for _, c := range j.src.copies {
		if err := copyFile(j.src.dir, c, dir.WriteFile); err != nil {
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
	if err := dir.WriteFile(infer.ManifestFile, manifest); err != nil {
		return nil, err
	}
	if err := dir.WriteFile(infer.ManifestDigestFile, sum); err != nil {
		return nil, err
	}
	res := &Result{
		BPW: m.BPW, Bytes: j.total, SourceBytes: j.src.ckpt.Bytes(), Ledger: m.Ledger,
		ContentHash: m.ContentHash, Layers: m.Plan.Modules, DirectoryBytes: int64(len(manifest) + len(sum)),
	}
	for _, f := range m.Files {
		res.DirectoryBytes += f.Bytes
	}
	return res, nil
}

// manifest describes the finished artifact.
func (j *job) manifest(records []record, weights infer.FileDigest) (*infer.Manifest, error) {
	m := &infer.Manifest{
		Schema: infer.ManifestSchema, ToolVersion: j.opts.ToolVersion, Arithmetic: arithmetic,
		Tokenizer: j.src.tokenizerDigest(),
		Plan: infer.Plan{
			Bits: j.opts.Bits, GroupRows: j.opts.GroupRows, RowScale: j.opts.RowScale, Compensation: j.opts.Compensate,
		},
		Files: append([]infer.FileDigest{
			weights,
			{Name: configFile, Bytes: int64(len(j.config)), SHA256: hexSum(j.config)},
		}, j.src.copies...),
	}
	if j.text != nil {
		m.Calibration, m.Seed = &j.text.Record, j.text.Record.Seed
	}
	var source []infer.TensorDigest
	byName := map[string]record{}
	for i, r := range records {
		m.Tensors = append(m.Tensors, r.Tensors...)
		source = append(source, r.Source...)
		byName[j.items[i].spec.Name] = r
	}
	m.Source = infer.NewSourceDigest(hexSum(j.src.rawConfig), source)
	layout, err := infer.StoredLayout(j.src.cfg, j.opts.GroupRows, m.Tensors)
	if err != nil {
		return nil, fmt.Errorf("describing the artifact: %w", err)
	}
	for i := range layout {
		if st := &layout[i]; len(st.Spec.Shape) == 2 {
			r := byName[st.Spec.Name]
			pm := planModule(st, relativeError(r.SquaredError, r.SquaredNorm))
			pm.OutputError, pm.Warning = r.OutputError, r.Warning
			m.Plan.Modules = append(m.Plan.Modules, pm)
		}
	}
	m.BPW = infer.MeasureBits(layout)
	if m.Ledger, err = infer.NewLedger(m.Tensors, j.total); err != nil {
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

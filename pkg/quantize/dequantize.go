package quantize

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"afmq/internal/infile"
	"afmq/internal/kernel"
	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// DequantizeOptions say what Dequantize does. Artifact and Out are required; the zero value
// of every other field works.
type DequantizeOptions struct {
	Artifact string // directory of the artifact
	Out      string // directory to create; must not exist, or be empty

	// Adapter is the directory of an adapter to merge into the weights; empty for none.
	// AllowUnbound accepts one that does not name its base.
	Adapter      string
	AllowUnbound bool

	// DType is the type of the weights: safetensors.F16, for which zero stands, or
	// safetensors.F32, which represents the weights of every stored form exactly.
	DType safetensors.DType

	Restart     bool              // discard the state of an interrupted run
	Pool        *compute.Pool     // nil for Threads workers of its own
	Threads     int               // where Pool is nil; 0 for all cores
	Progress    progress.Reporter // nil for progress.Silent
	ToolVersion string            // a run continues only at the same version; may be empty
}

// DequantizeResult describes the checkpoint that Dequantize wrote.
type DequantizeResult struct {
	ContentHash  string  `json:"content_hash"`   // of the artifact
	Bytes        int64   `json:"bytes"`          // of model.safetensors
	Tensors      int     `json:"tensors"`        // in model.safetensors
	Seconds      float64 `json:"seconds"`        // wall clock
	PeakRSSBytes int64   `json:"peak_rss_bytes"` // of the process so far
}

// Dequantize writes the weights of an artifact as a checkpoint in F16, or F32, that other tools load:
// one model.safetensors, and a config.json without quantization_config. Every tensor is
// checked against the artifact's manifest first.
//
// A palette without row scales is reproduced exactly, because its entries are fp16 values.
// An int8 row is q·scale in float32, rounded to the nearest fp16 (ties to even). The engine
// of pkg/infer uses the float32 product, so the two embeddings differ by up to 2^-11
// relative, and by more below 2^-14, where fp16 is subnormal. Palettes with row scales, blocks of
// ggml, and tensors kept in BF16 or F32, are rounded the same way. A value too large for fp16 is an
// error that names it. In F32 all weights are those that the engine multiplies by.
//
// An adapter is added before the rounding: the checkpoint holds Ŵ+scale·B·A rounded to
// the type.
//
// The whole checkpoint is written, or nothing. An interrupted run leaves nothing to resume;
// what a killed one left is overwritten by the same call, and refused by any other. Errors
// that a user can act on are *fault.Error: fault.Usage, fault.Input (a damaged artifact, an
// adapter of another base, state of another job) and fault.Output.
func Dequantize(ctx context.Context, opts DequantizeOptions) (*DequantizeResult, error) {
	began := time.Now()
	switch {
	case opts.Artifact == "":
		return nil, fault.Usagef("no artifact directory")
	case opts.Out == "":
		return nil, fault.Usagef("no output directory")
	case opts.DType == 0:
		opts.DType = safetensors.F16
	case opts.DType != safetensors.F16 && opts.DType != safetensors.F32:
		return nil, fault.Usagef("a dequantized checkpoint is F16 or F32, not %s", opts.DType)
	}
	opts.Progress = progress.Begin(opts.Progress, artifact.StageVerify, StageDequantize)
	pool, closePool := compute.Workers(opts.Pool, opts.Threads)
	defer closePool()
	a, err := artifact.Open(opts.Artifact)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	d := &dequantizer{a: a, dtype: opts.DType, pool: pool, progress: opts.Progress}
	if err := d.plan(); err != nil {
		return nil, err
	}
	if err := d.openAdapter(opts); err != nil {
		return nil, err
	}
	identity, err := d.identity(ctx, opts)
	if err != nil {
		return nil, err
	}
	sd, err := stage.Open(opts.Out, identity, stage.Options{NeedBytes: d.needBytes(), Restart: opts.Restart, Names: dequantizeNames})
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			sd.Discard()
		}
	}()
	if err := d.run(ctx, sd); err != nil {
		return nil, err
	}
	done = true
	if err := sd.End(nil); err != nil {
		return nil, err
	}
	return &DequantizeResult{
		ContentHash: a.Manifest.ContentHash, Bytes: d.total, Tensors: len(d.infos),
		Seconds: time.Since(began).Seconds(), PeakRSSBytes: rss.Peak(),
	}, nil
}

// denseMetadata is the metadata that transformers requires of a checkpoint.
var denseMetadata = map[string]string{"format": "pt"}

type dequantizer struct {
	a        *artifact.Reader
	dtype    safetensors.DType
	pool     *compute.Pool
	progress progress.Reporter
	infos    []safetensors.Info // one for each entry of a.layout
	total    int64              // bytes of model.safetensors
	config   []byte
	adapter  *adapter.Adapter // nil without one
}

// plan sets the tensors, the size and the config of the checkpoint.
func (d *dequantizer) plan() error {
	for _, st := range d.a.Layout {
		d.infos = append(d.infos, safetensors.Info{Name: st.Spec.Name, DType: d.dtype, Shape: slices.Clone(st.Spec.Shape)})
	}
	var err error
	if _, d.total, err = safetensors.FileSize(d.infos, denseMetadata); err != nil {
		return err
	}
	return d.copyOne(artifact.ConfigFile, func(_ string, data []byte) (err error) {
		if d.config, err = artifact.DenseConfig(data, d.dtype); err != nil {
			return fault.Inputf(filepath.Join(d.a.Dir, artifact.ConfigFile), "%v", err)
		}
		return nil
	})
}

// copyOne passes the content of a file of the artifact to write, after checking it against
// the manifest.
func (d *dequantizer) copyOne(name string, write func(name string, data []byte) error) error {
	i := slices.IndexFunc(d.a.Manifest.Files, func(f artifact.FileDigest) bool { return f.Name == name })
	path := filepath.Join(d.a.Dir, name)
	if i < 0 {
		return fault.Inputf(path, "is not listed in %s", artifact.ManifestFile)
	}
	data, err := infile.Read(path, artifact.MaxCopiedBytes)
	if err != nil {
		return err
	}
	if infile.SHA256(data) != d.a.Manifest.Files[i].SHA256 {
		return fault.Inputf(path, "does not match its SHA-256 in %s", artifact.ManifestFile)
	}
	return write(name, data)
}

// needBytes returns the size of the finished directory.
func (d *dequantizer) needBytes() int64 {
	n := d.total + int64(len(d.config))
	for _, f := range d.a.Manifest.Files {
		if f.Name != artifact.WeightsFile {
			n += f.Bytes
		}
	}
	return n
}

// run checks the artifact and writes every file of the checkpoint.
func (d *dequantizer) run(ctx context.Context, sd *stage.Dir) error {
	var stored int64
	for _, st := range d.a.Layout {
		stored += st.Bytes
	}
	d.progress.Stage(progress.Stage{Name: artifact.StageVerify, Work: stored})
	defer d.progress.Done()
	if err := d.a.CheckTensors(ctx, d.pool, d.progress); err != nil {
		return err
	}
	d.progress.Stage(progress.Stage{Name: StageDequantize, Work: d.values()})
	w, err := safetensors.Create(sd.Path(artifact.WeightsFile), d.infos, denseMetadata)
	if err != nil {
		return err
	}
	for i := range d.a.Layout {
		if err = d.write(ctx, w, &d.a.Layout[i]); err != nil {
			w.Abort()
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := sd.WriteFile(artifact.ConfigFile, d.config); err != nil {
		return err
	}
	for _, f := range d.a.Manifest.Files {
		if f.Name == artifact.WeightsFile || f.Name == artifact.ConfigFile || artifact.IsTuningFile(f.Name) {
			continue
		}
		if err := d.copyOne(f.Name, sd.WriteFile); err != nil {
			return err
		}
	}
	return nil
}

// values returns the number of values in the checkpoint.
func (d *dequantizer) values() (n int64) {
	for i := range d.a.Layout {
		n += d.a.Layout[i].Weights()
	}
	return n
}

// blockElements is the number of values converted between two writes.
const blockElements = 4 << 20

// write converts one tensor, in blocks of rows.
func (d *dequantizer) write(ctx context.Context, w *safetensors.Writer, st *artifact.StoredTensor) error {
	fill, err := d.a.Rows(st)
	if err != nil {
		return err
	}
	if d.adapter != nil {
		if w, ok := d.adapter.Modules[st.Spec.Module()]; ok {
			fill = d.merged(st.Spec, w, fill)
		}
	}
	rows, cols := st.Spec.Shape[0], 1
	if len(st.Spec.Shape) == 2 {
		cols = st.Spec.Shape[1]
	}
	block := min(rows, max(1, blockElements/cols))
	size := int(d.dtype.Size())
	out := make([]byte, block*cols*size)
	threads := d.pool.Threads()
	bufs := make([][]float32, threads)
	for r0 := 0; r0 < rows; r0 += block {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(block, rows-r0)
		// A task converts a few rows. The first error in the order of the rows is returned,
		// so that it does not depend on the threads.
		step := (n + 4*threads - 1) / (4 * threads)
		errs := make([]error, (n+step-1)/step)
		d.pool.Run(len(errs), func(worker, i int) {
			a, b := i*step, min(n, (i+1)*step)
			if len(bufs[worker]) < (b-a)*cols {
				bufs[worker] = make([]float32, step*cols)
			}
			errs[i] = d.convert(st, fill, out[a*cols*size:b*cols*size], bufs[worker][:(b-a)*cols], r0+a, r0+b)
		})
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		if err := w.Append(out[:n*cols*size]); err != nil {
			return err
		}
		d.progress.Advance(int64(n * cols))
	}
	d.a.Release(st)
	return nil
}

// convert computes rows r0 to r1-1 in float32 and writes them to out in the type of the checkpoint.
func (d *dequantizer) convert(st *artifact.StoredTensor, fill func(dst []float32, r0, r1 int) error, out []byte, buf []float32, r0, r1 int) error {
	t, _ := d.a.File.Tensor(st.Names[0])
	if err := safetensors.Guard(t.Path(), func() error { return fill(buf, r0, r1) }); err != nil {
		return err
	}
	if d.dtype == safetensors.F32 {
		copy(out, float32Bytes(buf))
		return nil
	}
	half := make([]uint16, len(buf))
	kernel.F32ToF16(half, buf)
	copy(out, uint16Bytes(half))
	for i, h := range half {
		if h&0x7c00 == 0x7c00 {
			return fault.Inputf(t.Path(), "tensor %q: %v at index %d is too large for F16", st.Spec.Name, buf[i], r0*len(half)/(r1-r0)+i)
		}
	}
	return nil
}

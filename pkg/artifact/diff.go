package artifact

import (
	"context"
	"path/filepath"

	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// DiffOptions are the options of [Diff]. The zero value works.
type DiffOptions struct {
	Reference string            // checkpoint that relative errors are measured against; empty for none
	Pool      *compute.Pool     // nil for Threads workers of its own
	Threads   int               // where Pool is nil; 0 for all cores
	Progress  progress.Reporter // nil for none
}

// Diff compares two models, directories or GGUF files. Artifacts are verified first. Errors are of
// kind [fault.Input] if a model cannot be read, is not intact, or differs from the first in
// the names or shapes of its tensors, and of kind [fault.Usage] if the reference is
// quantized.
func Diff(ctx context.Context, dirA, dirB string, opts DiffOptions) (*Difference, error) {
	opts.Progress = progress.Begin(opts.Progress, diffStages(dirA, dirB, opts.Reference)...)
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	d := &differ{ctx: ctx, pool: pool, progress: opts.Progress}
	for i, dir := range []string{dirA, dirB, opts.Reference} {
		if dir == "" {
			continue
		}
		s, err := openDiffModel(ctx, pool, dir, opts.Progress)
		if err != nil {
			return nil, err
		}
		defer s.close()
		d.models[i] = s
		if err := sameShape(d.models[0], s); err != nil {
			return nil, err
		}
	}
	if r := d.models[2]; r != nil {
		if err := r.refuseReference(); err != nil {
			return nil, err
		}
	}
	return d.run()
}

// diffStages returns the stages of a comparison.
func diffStages(dirs ...string) (stages []string) {
	artifacts, files := 0, 0
	for _, dir := range dirs {
		switch {
		case dir == "":
		case IsArtifact(dir):
			stages = append(stages, StageVerify)
			artifacts++
		default:
			stages = append(stages, StageHash)
			if ggufmodel.Is(dir) {
				files++
			}
		}
	}
	if artifacts == 1 && files == 0 { // whether it was made from the other one
		stages = append(stages, StageHash)
	}
	return append(stages, StageCompare)
}

// total returns the number of weights.
func total(layout []StoredTensor) (n int64) {
	for i := range layout {
		n += layout[i].Weights()
	}
	return n
}

// differ compares models[0], A, with models[1], B. models[2] is the reference, nil for none.
type differ struct {
	ctx      context.Context
	pool     *compute.Pool
	progress progress.Reporter
	models   [3]*diffModel
}

func (d *differ) run() (*Difference, error) {
	a, b := d.models[0], d.models[1]
	out := &Difference{
		A: a.summary(), B: b.summary(), Files: []FileDifference{}, Provenance: []KeyDifference{},
		Layers: []LayerDifference{}, Vectors: []LayerDifference{},
	}
	out.SameContent = out.A.ContentHash == out.B.ContentHash
	switch {
	case a.gguf != nil && b.gguf != nil:
		out.Provenance = compareKeys(a.gguf.File, b.gguf.File)
		out.Same = out.SameContent && len(out.Provenance) == 0
	case a.gguf != nil || b.gguf != nil: // files of different formats
	default:
		out.Files = compareFiles(a.files, b.files)
		out.Same = out.SameContent && len(out.Files) == 0
	}
	switch {
	case a.gguf != nil || b.gguf != nil:
	case a.artifact != nil && b.artifact != nil:
		out.Provenance = compareManifests(a.artifact.Manifest, b.artifact.Manifest)
	case a.artifact != b.artifact: // one of them is nil
		is, err := d.isSource()
		if err != nil {
			return nil, err
		}
		out.IsSource = &is
	}
	d.progress.Stage(progress.Stage{Name: StageCompare, Work: total(a.layout)})
	defer d.progress.Done()
	var sum tally
	for i := range a.layout {
		l, t, err := d.layer(i)
		if err != nil {
			return nil, err
		}
		sum.add(t)
		if !l.Same {
			out.Totals.LayersChanged++
		}
		if len(a.layout[i].Spec.Shape) == 2 {
			out.Layers = append(out.Layers, *l)
		} else {
			out.Vectors = append(out.Vectors, *l)
		}
		d.progress.Advance(a.layout[i].Weights())
	}
	out.Totals.Bytes = out.B.Bytes - out.A.Bytes
	out.Totals.WeightsChanged = sum.share()
	out.Totals.WeightDistance = relative(sum.diff, sum.a)
	if d.models[2] != nil {
		out.Totals.RelErrorA, out.Totals.RelErrorB = relative(sum.errA, sum.ref), relative(sum.errB, sum.ref)
	}
	return out, nil
}

// isSource reports whether the artifact was made from the checkpoint.
func (d *differ) isSource() (bool, error) {
	compressed, checkpoint := d.models[0], d.models[1]
	if compressed.artifact == nil {
		compressed, checkpoint = checkpoint, compressed
	}
	err := compressed.artifact.Manifest.IsSource(d.ctx, d.pool, checkpoint.dir, d.progress)
	if fault.KindOf(err) == fault.Input { // the checkpoint could be read, so it is another one
		return false, nil
	}
	return err == nil, err
}

// layer compares tensor i of the model.
func (d *differ) layer(i int) (*LayerDifference, tally, error) {
	a, b := d.models[0], d.models[1]
	stA, stB := &a.layout[i], &b.layout[i]
	l := &LayerDifference{
		Name: stA.Spec.Module(), A: a.layer(stA), B: b.layer(stB), Same: a.stores(stA, b, stB),
	}
	t, err := d.measure(i)
	if err != nil {
		return nil, t, err
	}
	l.WeightsChanged = t.share()
	l.WeightDistance = relative(t.diff, t.a)
	if d.models[2] != nil {
		l.A.RelError, l.B.RelError = relative(t.errA, t.ref), relative(t.errB, t.ref)
	}
	if stA.Form == Palette && stB.Form == Palette {
		ma, err := a.artifact.Palette(stA)
		if err != nil {
			return nil, t, err
		}
		mb, err := b.artifact.Palette(stB)
		if err != nil {
			return nil, t, err
		}
		err = safetensors.Guard(filepath.Join(a.dir, WeightsFile), func() error {
			l.LUTDistance = lutDistance(ma, mb)
			return nil
		})
		if err != nil {
			return nil, t, err
		}
	}
	a.release(stA)
	b.release(stB)
	return l, t, nil
}

package artifact

import (
	"context"
	"math"
	"path/filepath"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/palettize"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// Difference is how two models of one shape differ: A, which stands for what was, and B,
// each an artifact or a checkpoint.
type Difference struct {
	// Same: the tensors and every file that belongs to the model have the same bytes, the
	// manifests of two artifacts included. How a checkpoint is cut into shards does not
	// count.
	Same        bool              `json:"same"`
	SameContent bool              `json:"same_content"` // the tensors have the same bytes
	A           DiffSide          `json:"a"`
	B           DiffSide          `json:"b"`
	Files       []FileDifference  `json:"files"`      // that differ, in name order, weights aside
	Provenance  []KeyDifference   `json:"provenance"` // what the manifests of two artifacts say differently
	IsSource    *bool             `json:"is_source"`  // a checkpoint and an artifact: was this made from that
	Totals      DiffTotals        `json:"totals"`     // over all tensors of the model
	Layers      []LayerDifference `json:"layers"`     // every matrix, in canonical order
	Vectors     []LayerDifference `json:"vectors"`    // norms and biases, in canonical order
}

// DiffSide is one of the two.
type DiffSide struct {
	Path        string        `json:"path"`
	Kind        string        `json:"kind"`         // "artifact" or "checkpoint"
	ContentHash string        `json:"content_hash"` // of the tensors, hashed again
	Bytes       int64         `json:"bytes"`        // of the safetensors files
	BPW         BitsPerWeight `json:"bpw"`          //
	Ledger      *Ledger       `json:"ledger"`       // nil for a checkpoint
}

// FileDifference is a file that differs; a digest is empty where there is no such file.
type FileDifference struct {
	Name string `json:"name"`
	A    string `json:"a"` // hex SHA-256
	B    string `json:"b"`
}

// KeyDifference is a key of the manifest that differs, with both values as text.
type KeyDifference struct {
	Key string `json:"key"`
	A   string `json:"a"`
	B   string `json:"b"`
}

// DiffTotals sums up.
type DiffTotals struct {
	LayersChanged  int      `json:"layers_changed"`  // matrices and vectors that are not stored the same
	Bytes          int64    `json:"bytes"`           // by which B's files are larger
	WeightsChanged float64  `json:"weights_changed"` // share of the weights whose value differs
	WeightDistance *float64 `json:"weight_distance"` // as in LayerDifference, over all tensors at once
	RelErrorA      *float64 `json:"rel_error_a"`     // ‖A−R‖/‖R‖ over all tensors; nil without a reference R
	RelErrorB      *float64 `json:"rel_error_b"`
}

// LayerDifference is how one tensor of the model differs. Norms are Frobenius norms of
// the weights as the engine reads them, in float32; sums are in float64.
type LayerDifference struct {
	Name string    `json:"name"` // a tensor's without ".weight"
	Same bool      `json:"same"` // stored the same, byte for byte
	A    LayerSide `json:"a"`
	B    LayerSide `json:"b"`
	// WeightDistance is ‖B−A‖/‖A‖, the root mean square difference of the weights relative
	// to theirs in A; nil where A is zero and B is not.
	WeightDistance *float64 `json:"weight_distance"`
	WeightsChanged float64  `json:"weights_changed"` // share of the weights whose value differs
	// LUTDistance is the root mean square difference of the sorted look-up tables relative
	// to the root mean square of A's entries, an entry of the shorter table standing for as
	// many of the longer as it takes: the 2-Wasserstein distance of the tables, averaged
	// over groups. Nil unless both are palettes, with the same rows in a group and both or
	// neither with row scales.
	LUTDistance *float64 `json:"lut_distance"`
}

// LayerSide is one tensor of the model as one side stores it.
type LayerSide struct {
	Form  Form  `json:"form"`
	Bits  int   `json:"bits"`
	Bytes int64 `json:"bytes"`
	// RelError is ‖Ŵ−R‖/‖R‖ against the reference, or without one what the manifest says;
	// nil for a checkpoint without a reference, and for a vector without one.
	RelError *float64 `json:"rel_error"`
}

// DiffOptions are the options of [Diff]. The zero value works.
type DiffOptions struct {
	Reference string            // checkpoint that relative errors are measured against; empty for none
	Pool      *compute.Pool     // nil for Threads workers of its own
	Threads   int               // where Pool is nil; 0 for all cores
	Progress  progress.Reporter // nil for none
}

// Diff compares the models in two directories. Artifacts are verified first. Errors are of
// kind [fault.Input] if a model cannot be read, is not intact, or differs from the first in
// the names or shapes of its tensors, and of kind [fault.Usage] if the reference is an
// artifact.
func Diff(ctx context.Context, dirA, dirB string, opts DiffOptions) (*Difference, error) {
	if opts.Progress == nil {
		opts.Progress = progress.Silent
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	d := &differ{ctx: ctx, pool: pool, progress: opts.Progress}
	for i, dir := range []string{dirA, dirB, opts.Reference} {
		if dir == "" {
			continue
		}
		s, err := openCompared(ctx, pool, dir, opts.Progress)
		if err != nil {
			return nil, err
		}
		defer s.close()
		d.sides[i] = s
		if err := sameShape(d.sides[0], s); err != nil {
			return nil, err
		}
	}
	if r := d.sides[2]; r != nil && r.artifact != nil {
		return nil, fault.Usagef("reference %s is an artifact; relative errors are measured against a checkpoint", opts.Reference)
	}
	return d.run()
}

// differ compares sides[0] with sides[1]; sides[2] is the reference, nil for none.
type differ struct {
	ctx      context.Context
	pool     *compute.Pool
	progress progress.Reporter
	sides    [3]*compared
}

func (d *differ) run() (*Difference, error) {
	a, b := d.sides[0], d.sides[1]
	out := &Difference{
		A: a.summary(), B: b.summary(), Files: []FileDifference{}, Provenance: []KeyDifference{},
		Layers: []LayerDifference{}, Vectors: []LayerDifference{},
	}
	out.SameContent = out.A.ContentHash == out.B.ContentHash
	out.Files = compareFiles(a.files, b.files)
	out.Same = out.SameContent && len(out.Files) == 0
	if a.artifact != nil && b.artifact != nil {
		out.Provenance = compareManifests(a.artifact.Manifest, b.artifact.Manifest)
	} else if a.artifact != b.artifact { // one of them is nil
		is, err := d.isSource()
		if err != nil {
			return nil, err
		}
		out.IsSource = &is
	}
	d.progress.Stage("compare", out.A.Bytes+out.B.Bytes, "B")
	defer d.progress.Done()
	var total tally
	for i := range a.layout {
		l, t, err := d.layer(i)
		if err != nil {
			return nil, err
		}
		total.add(t)
		if !l.Same {
			out.Totals.LayersChanged++
		}
		if len(a.layout[i].Spec.Shape) == 2 {
			out.Layers = append(out.Layers, *l)
		} else {
			out.Vectors = append(out.Vectors, *l)
		}
		d.progress.Advance(l.A.Bytes + l.B.Bytes)
	}
	out.Totals.Bytes = out.B.Bytes - out.A.Bytes
	out.Totals.WeightsChanged = total.share()
	out.Totals.WeightDistance = relative(total.diff, total.a)
	if d.sides[2] != nil {
		out.Totals.RelErrorA, out.Totals.RelErrorB = relative(total.errA, total.ref), relative(total.errB, total.ref)
	}
	return out, nil
}

// isSource reports whether the one that is an artifact was made from the other.
func (d *differ) isSource() (bool, error) {
	artifact, checkpoint := d.sides[0], d.sides[1]
	if artifact.artifact == nil {
		artifact, checkpoint = checkpoint, artifact
	}
	err := artifact.artifact.Manifest.IsSource(d.ctx, d.pool, checkpoint.dir)
	if fault.KindOf(err) == fault.Input { // the checkpoint was read before: it is another
		return false, nil
	}
	return err == nil, err
}

// layer compares tensor i of the model.
func (d *differ) layer(i int) (*LayerDifference, tally, error) {
	a, b := d.sides[0], d.sides[1]
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
	if d.sides[2] != nil {
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

// diffRows is how many rows of a matrix are one task: those of a group.
const diffRows = palettize.DefaultGroupRows

// measure sums over the weights of tensor i. The order of the sums does not depend on the
// number of threads.
func (d *differ) measure(i int) (tally, error) {
	shape := d.sides[0].layout[i].Spec.Shape
	rows, cols := shape[0], 1
	if len(shape) == 2 {
		cols = shape[1]
	}
	var fill [3]func(dst []float32, r0, r1 int) error
	for k, s := range d.sides {
		if s != nil {
			f, err := s.rows(i)
			if err != nil {
				return tally{}, err
			}
			fill[k] = f
		}
	}
	parts := make([]tally, (rows+diffRows-1)/diffRows)
	errs := make([]error, len(parts))
	bufs := make([][3][]float32, d.pool.Threads())
	d.pool.Run(len(parts), func(worker, p int) {
		if errs[p] = d.ctx.Err(); errs[p] != nil {
			return
		}
		r0, r1 := p*diffRows, min(rows, (p+1)*diffRows)
		n := (r1 - r0) * cols
		var v [3][]float32
		for k, f := range fill {
			if f == nil {
				continue
			}
			if bufs[worker][k] == nil {
				bufs[worker][k] = make([]float32, diffRows*cols)
			}
			v[k] = bufs[worker][k][:n]
			if errs[p] = safetensors.Guard(d.sides[k].dir, func() error { return f(v[k], r0, r1) }); errs[p] != nil {
				return
			}
		}
		parts[p] = count(v[0], v[1], v[2])
	})
	var sum tally
	for p := range parts {
		if errs[p] != nil {
			return sum, errs[p]
		}
		sum.add(parts[p])
	}
	if x := sum.diff + sum.a + sum.errA + sum.errB + sum.ref; math.IsNaN(x) || math.IsInf(x, 0) {
		return sum, fault.Inputf(d.sides[0].dir, "tensor %q holds values that are not finite, here or in what it is compared with", d.sides[0].layout[i].Spec.Name)
	}
	return sum, nil
}

// tally holds sums over weights.
type tally struct {
	weights, changed int64
	diff, a          float64 // Σ(b−a)², Σa²
	errA, errB, ref  float64 // Σ(a−r)², Σ(b−r)², Σr²
}

func count(a, b, ref []float32) tally {
	t := tally{weights: int64(len(a))}
	for i, x := range a {
		x, y := float64(x), float64(b[i])
		if x != y {
			t.changed++
			t.diff += (y - x) * (y - x)
		}
		t.a += x * x
		if ref != nil {
			r := float64(ref[i])
			t.errA += (x - r) * (x - r)
			t.errB += (y - r) * (y - r)
			t.ref += r * r
		}
	}
	return t
}

func (t *tally) add(u tally) {
	t.weights += u.weights
	t.changed += u.changed
	t.diff += u.diff
	t.a += u.a
	t.errA += u.errA
	t.errB += u.errB
	t.ref += u.ref
}

func (t *tally) share() float64 { return float64(t.changed) / float64(max(t.weights, 1)) }

// relative returns √(part/whole): 0 if both are zero, nil if only the whole is.
func relative(part, whole float64) *float64 {
	x := 0.0
	if part != 0 {
		if whole == 0 {
			return nil
		}
		x = math.Sqrt(part / whole)
	}
	return &x
}

// lutDistance is LayerDifference.LUTDistance of two palettized matrices of one shape.
func lutDistance(a, b *palettize.Matrix) *float64 {
	if a.GroupRows != b.GroupRows || (a.RowScale == nil) != (b.RowScale == nil) {
		return nil
	}
	ka, kb := 1<<a.Bits, 1<<b.Bits
	k := max(ka, kb)
	var diff, whole float64
	for g := range a.Groups() {
		ta, tb := sortedTable(a.LUT[g*ka:(g+1)*ka]), sortedTable(b.LUT[g*kb:(g+1)*kb])
		for i := range k {
			x, y := ta[i*ka/k], tb[i*kb/k]
			diff += (y - x) * (y - x)
			whole += x * x
		}
	}
	return relative(diff, whole)
}

func sortedTable(lut []uint16) []float64 {
	half := make([]float32, len(lut))
	kernel.F16ToF32(half, lut)
	out := make([]float64, len(lut))
	for i, x := range half {
		out[i] = float64(x)
	}
	slices.Sort(out)
	return out
}

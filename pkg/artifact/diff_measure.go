package artifact

import (
	"math"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/fault"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// diffRows is how many rows of a matrix one task compares: those of a group.
const diffRows = palettize.DefaultGroupRows

// measure sums over the weights of tensor i. The order of summation is the same for every number
// of threads.
func (d *differ) measure(i int) (tally, error) {
	shape := d.models[0].layout[i].Spec.Shape
	rows, cols := shape[0], 1
	if len(shape) == 2 {
		cols = shape[1]
	}
	var fill [3]func(dst []float32, r0, r1 int) error
	for k, s := range d.models {
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
			if errs[p] = safetensors.Guard(d.models[k].dir, func() error { return f(v[k], r0, r1) }); errs[p] != nil {
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
		return sum, fault.Inputf(d.models[0].dir, "tensor %q has values that are not finite, here or in the model that it is compared with", d.models[0].layout[i].Spec.Name)
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

// lutDistance returns LayerDifference.LUTDistance of two palettized matrices of one shape.
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

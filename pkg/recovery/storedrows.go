package recovery

import (
	"encoding/binary"
	"math"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/grid"
	"afmq/pkg/safetensors"
)

// trainedInt8 is a matrix of int8 rows in training.
type trainedInt8 struct {
	cols  int
	q     []int8    // [rows, cols]
	scale []float32 // [rows]
}

func newInt8Rows(q []int8, scale []float32) *trainedInt8 {
	return &trainedInt8{len(q) / len(scale), slices.Clone(q), slices.Clone(scale)}
}

func (t *trainedInt8) Lengths() (tables, scales, codes int) { return 0, len(t.scale), len(t.q) }

func (t *trainedInt8) Read(v grid.Values) {
	copy(v.Scales, t.scale)
	for i := range v.Codes {
		v.Codes[i] = float32(t.q[i])
	}
}

// Units of a code are the root mean square of its row: at 8 bits, levels are close to real numbers.
func (t *trainedInt8) Units(v grid.Values) {
	for r, x := range t.scale[:len(v.Scales)] {
		v.Scales[r] = x
		if x == 0 {
			v.Scales[r] = 1
		}
	}
	if len(v.Codes) == 0 {
		return
	}
	for r := range t.scale {
		sum := 0.0
		for _, q := range t.q[r*t.cols : (r+1)*t.cols] {
			sum += float64(q) * float64(q)
		}
		unit := float32(max(1, math.Sqrt(sum/float64(t.cols))))
		for i := range t.cols {
			v.Codes[r*t.cols+i] = unit
		}
	}
}

func (t *trainedInt8) AddGradient(pool *compute.Pool, g grid.Values, weights []float32) {
	pool.Run(len(t.scale), func(_, r int) {
		row, q, along := weights[r*t.cols:(r+1)*t.cols], t.q[r*t.cols:(r+1)*t.cols], 0.0
		for i, d := range row {
			along += float64(float64(d) * float64(q[i]))
		}
		if len(g.Scales) > 0 {
			g.Scales[r] += float32(along)
		}
		if len(g.Codes) > 0 {
			codes := g.Codes[r*t.cols : (r+1)*t.cols]
			for i, d := range row {
				codes[i] += float32(t.scale[r] * d)
			}
		}
	})
}

// Store keeps a scale above 0, or 0.
func (t *trainedInt8) Store(pool *compute.Pool, v grid.Values) {
	pool.Run(len(t.scale), func(_, r int) {
		if len(v.Scales) > 0 && finite(float64(v.Scales[r])) && t.scale[r] > 0 {
			t.scale[r] = max(v.Scales[r], math.SmallestNonzeroFloat32)
		}
		if len(v.Codes) == 0 {
			return
		}
		for i := r * t.cols; i < (r+1)*t.cols; i++ {
			t.q[i] = int8(min(max(math.RoundToEven(float64(v.Codes[i])), -127), 127))
		}
	})
}

func (t *trainedInt8) Data() grid.Data {
	q, scale := make([]byte, len(t.q)), []byte(nil)
	for i, x := range t.q {
		q[i] = byte(x)
	}
	for _, x := range t.scale {
		scale = binary.LittleEndian.AppendUint32(scale, math.Float32bits(x))
	}
	return grid.Data{q, scale}
}

// maxHalf is the largest fp16 value.
const maxHalf = 65504

// trainedVector is a norm or a bias in training. Its values count as scales.
type trainedVector struct {
	dtype  safetensors.DType
	values []float32 // as stored
	offset float32   // of a norm: what is added to its weights
}

func (t *trainedVector) Lengths() (tables, scales, codes int) { return 0, len(t.values), 0 }

func (t *trainedVector) Read(v grid.Values) { copy(v.Scales, t.values) }

// Units are about the root mean square of what the vector stands for: a power of two, so that a value of F32 that does
// not change is the same when it is divided by the unit and multiplied again.
func (t *trainedVector) Units(v grid.Values) {
	unit := float32(1)
	gains := slices.Clone(t.values)
	for i := range gains {
		gains[i] += t.offset
	}
	if square := kernel.Dot(gains, gains) / float64(len(gains)); square > 0 {
		unit = float32(math.Exp2(math.Round(math.Log2(square) / 2)))
	}
	for i := range v.Scales {
		v.Scales[i] = unit
	}
}

func (t *trainedVector) AddGradient(_ *compute.Pool, g grid.Values, weights []float32) {
	kernel.Add(g.Scales, weights)
}

func (t *trainedVector) Store(_ *compute.Pool, v grid.Values) {
	next := slices.Clone(v.Scales)
	if t.dtype == safetensors.F16 {
		for i, x := range next {
			next[i] = min(max(x, -maxHalf), maxHalf)
		}
	}
	bits := make([]uint16, len(next))
	switch t.dtype {
	case safetensors.F16:
		kernel.F32ToF16(bits, next)
		kernel.F16ToF32(next, bits)
	case safetensors.BF16:
		kernel.F32ToBF16(bits, next)
		kernel.BF16ToF32(next, bits)
	}
	for i, x := range next {
		if finite(float64(x)) {
			t.values[i] = x
		}
	}
}

func (t *trainedVector) Data() (out grid.Data) {
	var data []byte
	bits := make([]uint16, len(t.values))
	switch t.dtype {
	case safetensors.F16:
		kernel.F32ToF16(bits, t.values)
	case safetensors.BF16:
		kernel.F32ToBF16(bits, t.values)
	default:
		for _, x := range t.values {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
		return grid.Data{data}
	}
	for _, b := range bits {
		data = binary.LittleEndian.AppendUint16(data, b)
	}
	return grid.Data{data}
}

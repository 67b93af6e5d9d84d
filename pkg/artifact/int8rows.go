package artifact

import (
	"fmt"
	"math"

	"afmq/pkg/compute"
	"afmq/pkg/safetensors"
)

// rowBlock is the number of rows of a task of QuantizeRows: large enough to make scheduling
// cheap, small enough to balance the load at the end.
const rowBlock = 64

// QuantizeRows quantizes the matrix t [rows, cols], an embedding or an untied head, to
// symmetric int8 rows ([RowInt8]). The scale of a row is its largest magnitude divided by 127, in
// float32, and a value is x/scale rounded to nearest, ties to even, −127 to 127. A row of
// zeros has scale 0 and values 0, as does a row whose scale underflows. q holds the bytes of
// the int8 values. squaredErr is Σ(x − q·scale)² and squaredNorm Σx², summed row by row.
func QuantizeRows(pool *compute.Pool, t *safetensors.Tensor) (q []byte, scale []float32, squaredErr, squaredNorm float64, err error) {
	rows, cols := t.Shape[0], t.Shape[1]
	q = make([]byte, rows*cols)
	scale = make([]float32, rows)
	type rowSums struct{ err, norm float64 }
	sums := make([]rowSums, rows)
	blocks := (rows + rowBlock - 1) / rowBlock
	errs := make([]error, blocks)
	bufs := make([][]float32, pool.Threads())
	pool.Run(blocks, func(worker, b int) {
		if bufs[worker] == nil {
			bufs[worker] = make([]float32, cols)
		}
		row := bufs[worker]
		errs[b] = safetensors.Guard(t.Path(), func() error {
			for r := b * rowBlock; r < min(rows, (b+1)*rowBlock); r++ {
				if err := t.Float32(row, r*cols); err != nil {
					return err
				}
				s, e, n, bad := quantizeRow(q[r*cols:(r+1)*cols], row)
				if bad >= 0 {
					return fmt.Errorf("holds %v at index %d", row[bad], r*cols+bad)
				}
				scale[r], sums[r] = s, rowSums{e, n}
			}
			return nil
		})
	})
	for _, err := range errs {
		if err != nil {
			return nil, nil, 0, 0, err
		}
	}
	for _, s := range sums {
		squaredErr += s.err
		squaredNorm += s.norm
	}
	return q, scale, squaredErr, squaredNorm, nil
}

// quantizeRow quantizes one row to q, the bytes of int8 values. bad is the index of the first
// value that is not finite, or -1.
func quantizeRow(q []byte, row []float32) (scale float32, squaredErr, squaredNorm float64, bad int) {
	const inf = 0x7f800000
	var top uint32
	for _, x := range row {
		top = max(top, math.Float32bits(x)&^(1<<31))
	}
	if top >= inf {
		for i, x := range row {
			if math.Float32bits(x)&inf == inf {
				return 0, 0, 0, i
			}
		}
	}
	scale = math.Float32frombits(top) / 127
	q = q[:len(row)]
	if scale == 0 {
		clear(q)
		for _, x := range row {
			squaredErr += float64(x) * float64(x)
		}
		return 0, squaredErr, squaredErr, -1
	}
	// Adding and subtracting 1.5·2²³ rounds a small float32 to the nearest integer, ties to
	// even.
	const magic = 3 << 22
	for i, x := range row {
		v := x/scale + magic
		k := min(max(int32(v-magic), -127), 127) // a subnormal scale is rounded, so x/scale may exceed 127
		q[i] = byte(k)
		d := float64(x) - float64(k)*float64(scale)
		squaredErr += float64(d * d) // the conversion prevents fusing, which only some CPUs do
		squaredNorm += float64(x) * float64(x)
	}
	return scale, squaredErr, squaredNorm, -1
}

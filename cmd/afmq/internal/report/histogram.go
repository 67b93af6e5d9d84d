package report

import (
	"context"
	"math"
	"slices"

	"github.com/x448/float16"

	"afmq/pkg/compute"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
)

// Bins of a distribution: so many over the range of the look-up tables, and as many times that
// range on either side.
const (
	tableBins  = 40
	outerSpans = 4
)

// TableEntry is one value of the look-up tables of a matrix. Each group of rows has a table of its
// own, in ascending order; entry i stands for entry i of all of them.
type TableEntry struct {
	Low     float64 `json:"low"` // 5th percentile over the tables
	Median  float64 `json:"median"`
	High    float64 `json:"high"`    // 95th percentile
	Weights int64   `json:"weights"` // number of weights whose index is this entry
}

// Distribution counts weights, divided by the scale of their row if there are scales.
type Distribution struct {
	From   float64 `json:"from"`
	Width  float64 `json:"width"`  // of a bin
	Counts []int64 `json:"counts"` // bin i holds the weights from From + i·Width up to but without the next bin
	Below  int64   `json:"below"`
	Above  int64   `json:"above"`
	// Unscaled is the number of weights in rows whose scale is 0, which are in no bin.
	Unscaled int64 `json:"unscaled"`
}

// tableEntries returns the values of the tables of a valid matrix and how many weights use each.
// Memory is that of the tables and of one row for each thread.
func tableEntries(ctx context.Context, pool *compute.Pool, path string, m *palettize.Matrix) ([]TableEntry, error) {
	k, rb := 1<<m.Bits, m.RowBytes()
	counts, err := countRows(ctx, pool, path, m.Rows, k, func(r int, counts []int64, scratch *rowScratch) error {
		scratch.indices = slices.Grow(scratch.indices[:0], m.Cols)[:m.Cols]
		palettize.UnpackRow(scratch.indices, m.Indices[r*rb:(r+1)*rb], m.Bits)
		for _, i := range scratch.indices {
			counts[i]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]TableEntry, k)
	err = safetensors.Guard(path, func() error {
		values := make([]float64, m.Groups())
		for i := range out {
			for g := range values {
				values[g] = float64(float16.Frombits(m.LUT[g*k+i]).Float32())
			}
			slices.Sort(values)
			n := len(values)
			at := func(q float64) float64 { return values[int(math.Round(q*float64(n-1)))] }
			out[i] = TableEntry{Low: at(0.05), Median: (values[(n-1)/2] + values[n/2]) / 2, High: at(0.95), Weights: counts[i]}
		}
		return nil
	})
	return out, err
}

// distribution counts the original weights of a matrix in bins that are chosen by its table. t has
// the shape of m. A weight that is NaN or infinite is an error of kind fault.Input. Memory is that of the bins and of one row for each thread.
func distribution(ctx context.Context, pool *compute.Pool, t *safetensors.Tensor, m *palettize.Matrix, entries []TableEntry) (*Distribution, error) {
	if err := safetensors.Guard(t.Path(), t.CheckFinite); err != nil {
		return nil, err
	}
	low, high := entries[0].Low, entries[len(entries)-1].High
	if low >= high { // all values are equal
		margin := math.Max(math.Abs(low), 1e-3) / 2
		low, high = low-margin, high+margin
	}
	d := &Distribution{Width: (high - low) / tableBins}
	bins := (1 + 2*outerSpans) * tableBins
	d.From = low - outerSpans*tableBins*d.Width
	// The last three counts are below, above and unscaled.
	counts, err := countRows(ctx, pool, t.Path(), m.Rows, bins+3, func(r int, counts []int64, scratch *rowScratch) error {
		scale := 1.0
		if m.RowScale != nil {
			scale = float64(float16.Frombits(m.RowScale[r]).Float32())
		}
		if scale == 0 {
			counts[bins+2] += int64(m.Cols)
			return nil
		}
		scratch.weights = slices.Grow(scratch.weights[:0], m.Cols)[:m.Cols]
		if err := t.Float32(scratch.weights, r*m.Cols); err != nil {
			return err
		}
		for _, w := range scratch.weights {
			switch i := d.bin(float64(w) / scale); {
			case i < 0:
				counts[bins]++
			case i >= bins:
				counts[bins+1]++
			default:
				counts[i]++
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.Counts, d.Below, d.Above, d.Unscaled = counts[:bins], counts[bins], counts[bins+1], counts[bins+2]
	return d, nil
}

// edge returns the lower edge of bin i.
func (d *Distribution) edge(i int) float64 { return d.From + float64(i)*d.Width }

// bin returns the bin of x: edge(bin) ≤ x < edge(bin+1). It may be out of range.
func (d *Distribution) bin(x float64) int {
	const far = 1 << 30 // where an int32 and the edges are safe
	i := int(math.Floor(max(min((x-d.From)/d.Width, far), -far)))
	switch { // division rounds
	case x < d.edge(i):
		i--
	case x >= d.edge(i+1):
		i++
	}
	return i
}

// crop removes bins at both ends of which at most one weight in a thousand is outside, but none
// over the range of the table.
func (d *Distribution) crop() {
	total := d.Below + d.Above
	for _, n := range d.Counts {
		total += n
	}
	from, to := 0, len(d.Counts)
	for from < outerSpans*tableBins && 1000*(d.Below+d.Counts[from]) <= total {
		d.Below += d.Counts[from]
		from++
	}
	for to > (outerSpans+1)*tableBins && 1000*(d.Above+d.Counts[to-1]) <= total {
		to--
		d.Above += d.Counts[to]
	}
	d.From, d.Counts = d.edge(from), slices.Clone(d.Counts[from:to])
}

// rowScratch is memory that a thread uses for one row after the other.
type rowScratch struct {
	indices []uint8
	weights []float32
}

// blockRows is the number of rows that a thread counts at a time.
const blockRows = 64

// countRows calls count for each of the rows of a matrix in the mapped file at path and returns the
// sum of the counts, of which there are n. The sum does not depend on the number of threads.
func countRows(ctx context.Context, pool *compute.Pool, path string, rows, n int, count func(r int, counts []int64, scratch *rowScratch) error) ([]int64, error) {
	counts, scratch := make([][]int64, pool.Threads()), make([]rowScratch, pool.Threads())
	for i := range counts {
		counts[i] = make([]int64, n)
	}
	blocks := (rows + blockRows - 1) / blockRows
	errs := make([]error, blocks)
	pool.Run(blocks, func(worker, b int) {
		errs[b] = safetensors.Guard(path, func() error {
			for r := b * blockRows; r < min((b+1)*blockRows, rows); r++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := count(r, counts[worker], &scratch[worker]); err != nil {
					return err
				}
			}
			return nil
		})
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	sum := counts[0]
	for _, c := range counts[1:] {
		for i := range c {
			sum[i] += c[i]
		}
	}
	return sum, nil
}

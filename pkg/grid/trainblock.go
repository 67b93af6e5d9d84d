package grid

import (
	"math"

	"afmq/pkg/compute"
	"afmq/pkg/ggml"
)

// trainedBlocks is a matrix of blocks of ggml in training. The scales of Values are the factors of a
// block, D and DMin, one block after another. A code's value is its level.
type trainedBlocks struct {
	t      ggml.Type
	rows   int
	perRow int
	blocks []ggml.Block // [rows, perRow]
	data   []byte
}

// Train returns a stored matrix in training: the factors of its blocks and its codes. Integer scales
// and mins do not change, nor does a block whose D is 0.
func (g Block) Train(data Data, rows, cols int) (Trainable, error) {
	if err := checkData(g, data, rows, cols); err != nil {
		return nil, err
	}
	t := &trainedBlocks{t: g.Type, rows: rows, perRow: cols / g.Type.BlockWeights(), data: append([]byte(nil), data[0]...)}
	t.blocks = make([]ggml.Block, rows*t.perRow)
	size := g.Type.BlockBytes()
	for i := range t.blocks {
		t.blocks[i].Type = g.Type
		t.blocks[i].Unpack(t.data[i*size : (i+1)*size])
	}
	return t, nil
}

func (t *trainedBlocks) Lengths() (tables, scales, codes int) {
	return 0, 2 * len(t.blocks), len(t.blocks) * t.t.BlockWeights()
}

func (t *trainedBlocks) Read(v Values) {
	n := t.t.BlockWeights()
	for i := range t.blocks {
		b := &t.blocks[i]
		if len(v.Scales) > 0 {
			d, dmin := b.Factors()
			v.Scales[2*i], v.Scales[2*i+1] = float32(d), float32(dmin)
		}
		if len(v.Codes) > 0 {
			for j, c := range b.Codes[:n] {
				v.Codes[i*n+j] = t.t.Level(c)
			}
		}
	}
}

// Units of factors that are 0 are those of the other blocks.
func (t *trainedBlocks) Units(v Values) {
	if len(v.Scales) > 0 {
		var sums [2]float64
		for i := range t.blocks {
			d, dmin := t.blocks[i].Factors()
			sums[0], sums[1] = sums[0]+d*d, sums[1]+dmin*dmin
		}
		typical := [2]float32{rootMean(sums[0], len(t.blocks)), rootMean(sums[1], len(t.blocks))}
		for i := range t.blocks {
			d, dmin := t.blocks[i].Factors()
			for k, f := range []float64{d, dmin} {
				if v.Scales[2*i+k] = float32(math.Abs(f)); f == 0 {
					v.Scales[2*i+k] = typical[k]
				}
			}
		}
	}
	codes := t.t.Codes()
	fill(v.Codes, float64(t.t.Level(uint8(codes-1))-t.t.Level(0))/float64(codes-1))
}

func (t *trainedBlocks) AddGradient(pool *compute.Pool, g Values, weights []float32) {
	n, part := t.t.BlockWeights(), t.t.PartWeights()
	pool.Run(t.rows, func(_, r int) {
		for i := r * t.perRow; i < (r+1)*t.perRow; i++ {
			b := &t.blocks[i]
			if d, _ := b.Factors(); d == 0 { // it stays as it is
				continue
			}
			sum, sumMin := 0.0, 0.0
			for p := range n / part {
				step := b.Step(p)
				for j := p * part; j < (p+1)*part; j++ {
					w := weights[i*n+j]
					if len(g.Codes) > 0 {
						g.Codes[i*n+j] += float32(step.Scale * w)
					}
					if len(g.Scales) > 0 {
						d, dmin := b.Coefficients(j)
						sum += float64(float64(d) * float64(w))
						sumMin += float64(float64(dmin) * float64(w))
					}
				}
			}
			if len(g.Scales) > 0 {
				g.Scales[2*i] += float32(sum)
				g.Scales[2*i+1] += float32(sumMin)
			}
		}
	})
}

func (t *trainedBlocks) Store(pool *compute.Pool, v Values) {
	n, part, size := t.t.BlockWeights(), t.t.PartWeights(), t.t.BlockBytes()
	pool.Run(t.rows, func(_, r int) {
		for i := r * t.perRow; i < (r+1)*t.perRow; i++ {
			b := &t.blocks[i]
			if len(v.Scales) > 0 && finite(v.Scales[2*i]) && finite(v.Scales[2*i+1]) {
				b.SetFactors(float64(v.Scales[2*i]), float64(v.Scales[2*i+1]))
			}
			if len(v.Codes) > 0 {
				for p := range n / part {
					step := b.Step(p)
					for j := p * part; j < (p+1)*part; j++ {
						if u := v.Codes[i*n+j]; finite(u) {
							b.Codes[j], _ = t.t.Nearest(float32(step.Scale*u)-step.Offset, step)
						}
					}
				}
			}
			b.Pack(t.data[i*size : (i+1)*size])
		}
	})
}

func (t *trainedBlocks) Data() Data { return Data{t.data} }

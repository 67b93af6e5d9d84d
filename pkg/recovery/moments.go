package recovery

import "afmq/pkg/compute"

const (
	// momentDamping is the share of the mean that is added to the diagonal of second
	// moments, so that directions which the text hardly excites keep a small weight.
	momentDamping = 0.01
	// widestWhole is the longest vector whose second moments are kept as a matrix. Longer
	// vectors keep the diagonal only.
	widestWhole = 4096
)

// moments accumulates the second moments Σ x·xᵀ of vectors x of n values.
type moments struct {
	n, tokens int
	whole     []float32 // [n, n], of which the upper triangle is valid; nil for the diagonal only
	diagonal  []float32 // [n]; nil where whole is set
}

func newMoments(n int, whole bool) *moments {
	if whole {
		return &moments{n: n, whole: make([]float32, n*n)}
	}
	return &moments{n: n, diagonal: make([]float32, n)}
}

// add accumulates the rows of x [tokens, n].
func (m *moments) add(pool *compute.Pool, x []float32, tokens int) {
	m.tokens += tokens
	if m.whole != nil {
		pool.AddGram(m.whole, x, tokens, m.n)
		return
	}
	for t := range tokens {
		for i, v := range x[t*m.n : (t+1)*m.n] {
			m.diagonal[i] += float32(v * v)
		}
	}
}

// meanDiagonal returns the mean of the diagonal of the sums.
func (m *moments) meanDiagonal() float64 {
	mean := 0.0
	for i := range m.n {
		v := m.whole
		at := i*m.n + i
		if m.whole == nil {
			v, at = m.diagonal, i
		}
		mean += float64(v[at]) / float64(m.n)
	}
	return mean
}

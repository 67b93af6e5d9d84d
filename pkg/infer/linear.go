package infer

import (
	"afmq/internal/kernel"
	"afmq/pkg/compute"
)

// Linear is one projection, Y = X·Wᵀ + b, in any stored form of the weights, with an
// optional adapter, which adds Scale·X·Aᵀ·Bᵀ.
type Linear struct {
	Weight  *compute.Matrix // [out, in]
	Bias    []float32       // [out], nil for none
	Adapter *LowRank        // nil for none
}

// Apply computes y [n, out] from x [n, in].
func (l *Linear) Apply(pool *compute.Pool, y, x []float32, n int) {
	var low []float32
	l.apply(pool, y, x, n, &low)
}

// apply is Apply with a buffer for the adapter's intermediate result Scale·X·Aᵀ, [n, rank],
// which is left there.
func (l *Linear) apply(pool *compute.Pool, y, x []float32, n int, low *[]float32) {
	pool.MulT(y, x, n, l.Weight)
	l.addAdapter(pool, y, x, n, low)
	l.addBias(y, n)
}

// addAdapter adds the adapter's term to y, if there is an adapter.
func (l *Linear) addAdapter(pool *compute.Pool, y, x []float32, n int, low *[]float32) {
	a := l.Adapter
	if a == nil {
		return
	}
	*low = grow(*low, n*a.Rank())
	pool.MulT(*low, x, n, a.A)
	kernel.Scale(*low, a.Scale)
	pool.MulTAdd(y, *low, n, a.B)
}

// addBias adds the bias to each row of y, if there is a bias.
func (l *Linear) addBias(y []float32, n int) {
	if l.Bias == nil {
		return
	}
	out := l.Weight.Rows()
	for i := range n {
		kernel.Add(y[i*out:(i+1)*out], l.Bias)
	}
}

// LowRank is the term Scale·B·A that a LoRA adapter adds to one projection W [out, in] (Hu et
// al. 2021, arXiv:2106.09685). It is not merged into W.
type LowRank struct {
	A     *compute.Matrix // [rank, in]
	B     *compute.Matrix // [out, rank]
	Scale float32
}

// Rank returns the rank of the product.
func (l *LowRank) Rank() int { return l.A.Rows() }

// applyBack computes the gradient dx [n, in] of a loss with respect to x from g [n, out],
// the gradient with respect to y, and adds it to dx if add is set. low receives Scale·G·B,
// [n, rank].
func (l *Linear) applyBack(pool *compute.Pool, dx, g []float32, n int, add bool, low *[]float32) {
	if add {
		pool.MulAdd(dx, g, n, l.Weight)
	} else {
		pool.Mul(dx, g, n, l.Weight)
	}
	if a := l.Adapter; a != nil {
		*low = grow(*low, n*a.Rank())
		pool.Mul(*low, g, n, a.B)
		kernel.Scale(*low, a.Scale)
		pool.MulAdd(dx, *low, n, a.A)
	}
}

package directory

import (
	"math"

	"afmq/pkg/adapter"
	"afmq/pkg/safetensors"
)

// Uniform is an adapter with one rank and one scale for all modules.
type Uniform struct {
	Rank  int
	Scale float64 // of B·A
	Type  safetensors.DType
	// Modules are the matrices A [Rank, in] and B [out, Rank] of each module. DType is Type.
	Modules map[string]adapter.Weights
}

// Unify returns an adapter with one rank and one scale. Matrices of a lower rank get rows and
// columns of zeros. If modules have several scales, B is multiplied by them in float32, and Scale
// is 1.
func Unify(a *adapter.Adapter) *Uniform {
	u := &Uniform{Type: safetensors.F16, Modules: map[string]adapter.Weights{}}
	scales := map[float64]bool{}
	for _, m := range a.Config.Modules {
		u.Rank = max(u.Rank, a.Config.RankOf(m))
		u.Scale = scaleOf(&a.Config, m)
		scales[u.Scale] = true
		if a.Modules[m].DType != safetensors.F16 {
			u.Type = safetensors.F32
		}
	}
	common := len(scales) == 1
	if !common {
		u.Scale, u.Type = 1, safetensors.F32
	}
	for _, m := range a.Config.Modules {
		w, rank := a.Modules[m], a.Config.RankOf(m)
		if !common {
			w.B = scaled(w.B, a.Config.ScaleOf(m))
		}
		w.A, w.B, w.DType = widenRows(w.A, rank, u.Rank), widenColumns(w.B, rank, u.Rank), u.Type
		u.Modules[m] = w
	}
	return u
}

// scaleOf is adapter.Config.ScaleOf in float64.
func scaleOf(c *adapter.Config, module string) float64 {
	alpha, ok := c.Alphas[module]
	if !ok {
		alpha = c.Alpha
	}
	if rank := float64(c.RankOf(module)); c.RSLoRA {
		return alpha / math.Sqrt(rank)
	} else {
		return alpha / rank
	}
}

func scaled(x []float32, by float32) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = v * by
	}
	return out
}

// widenRows adds rows of zeros to x [rows, n].
func widenRows(x []float32, rows, to int) []float32 {
	if rows == to {
		return x
	}
	return append(x[:len(x):len(x)], make([]float32, len(x)/rows*(to-rows))...)
}

// widenColumns adds columns of zeros to x [n, cols].
func widenColumns(x []float32, cols, to int) []float32 {
	if cols == to {
		return x
	}
	out := make([]float32, len(x)/cols*to)
	for i := range len(x) / cols {
		copy(out[i*to:], x[i*cols:(i+1)*cols])
	}
	return out
}

// Transpose returns the transpose of x [rows, cols].
func Transpose(x []float32, rows, cols int) []float32 {
	out := make([]float32, len(x))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = x[i*cols+j]
		}
	}
	return out
}

package coreml

import (
	"context"
	"io"
	"math"

	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
)

// weights gives the tensors of an artifact to the functions of a program.
type weights struct{ *source.Source }

func newWeights(a *artifact.Reader) *weights { return &weights{source.New(a, "Core ML")} }

// projection appends a module y = W·x + bias, with scale·B·A·x of an adapter added.
func (w *weights) projection(b *builder, x value, module string, a *Adapter) (value, error) {
	weight, err := w.matrix(b, w.Tensor(module+".weight"))
	if err != nil {
		return value{}, err
	}
	var bias *value
	if st := w.Tensor(module + ".bias"); st != nil {
		v := w.plain(b, st)
		bias = &v
	}
	y := b.linear(x, weight, bias)
	if a == nil {
		return y, nil
	}
	l, ok := a.open.Modules[module]
	if !ok {
		return y, nil
	}
	return b.binary("add", y, w.lowRank(b, x, module, a, l)), nil
}

// lowRank appends scale·B·(A·x).
func (w *weights) lowRank(b *builder, x value, module string, a *Adapter, l adapter.Weights) value {
	rank := a.open.Config.RankOf(module)
	store := func(part string, shape []int, values []float32) value {
		return b.storedHalf(a.Name+":"+module+part, shape, func(_ context.Context, to io.Writer) error {
			half := make([]uint16, len(values))
			if err := w.Round(half, values, module+part+" of adapter "+a.Name); err != nil {
				return err
			}
			return source.WriteHalves(to, half)
		})
	}
	down := b.linear(x, store(".lora_A", []int{rank, len(l.A) / rank}, l.A), nil)
	if s := a.open.Config.ScaleOf(module); s != 1 {
		down = b.binary("mul", down, b.half(float64(s)))
	}
	return b.linear(down, store(".lora_B", []int{len(l.B) / rank, rank}, l.B), nil)
}

// norm appends an RMSNorm with the weight of this name.
func (w *weights) norm(b *builder, x value, name string, sqrtEps float64) value {
	return b.rmsNorm(x, w.plain(b, w.Tensor(name)), sqrtEps)
}

// factor returns what the values of a matrix must be multiplied by because its scales are
// multiplied by a power of two, and whether they are; see exponent.
func (w *weights) factor(b *builder, st *artifact.StoredTensor) (value, bool) {
	k := w.Exponent(st)
	if k == 0 {
		return value{}, false
	}
	return b.half(math.Ldexp(1, -k)), true
}

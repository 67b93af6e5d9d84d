package coreai

import (
	"context"
	"io"
	"strconv"
	"strings"

	"afmq/pkg/export/internal/source"
	"afmq/pkg/model"
)

// adapterConstants adds the factors of an adapter; its scale is multiplied into B.
func (e *exporter) adapterConstants(c *constants, a *Adapter) error {
	for _, spec := range e.s.Config.Tensors() {
		module := spec.Module()
		l, ok := a.open.Modules[module]
		if !ok || spec.Role != model.Projection {
			continue
		}
		rank := a.open.Config.RankOf(module)
		b := scaled(l.B, a.open.Config.ScaleOf(module))
		prefix := "adapter:" + a.Name + ":" + module
		for _, f := range []struct {
			side   string
			shape  []int
			values []float32
		}{{".lora_A", []int{rank, len(l.A) / rank}, l.A}, {".lora_B", []int{len(b) / rank, rank}, b}} {
			if err := e.fits(f.values, module+f.side+" of adapter "+a.Name); err != nil {
				return err
			}
			c.floats(prefix+f.side, f.shape, func(_ context.Context, w io.Writer) error { return source.WriteFloats(w, f.values) })
		}
	}
	return nil
}

func scaled(values []float32, factor float32) []float32 {
	out := make([]float32, len(values))
	for i, x := range values {
		out[i] = x * factor
	}
	return out
}

// adapterInputs returns the inputs lora_A_KIND [layers, rank, in] and lora_B_KIND
// [layers, out, rank] for each kind of projection, with the largest rank, and adds the values of
// each adapter as constants input:NAME:INPUT. Modules and ranks that an adapter lacks are zero.
func (e *exporter) adapterInputs(c *constants) []input {
	cfg := e.s.Config
	rank := 0
	for _, a := range e.Adapters {
		for module := range a.open.Modules {
			rank = max(rank, a.open.Config.RankOf(module))
		}
	}
	var inputs []input
	for _, spec := range cfg.Tensors() {
		if spec.Role != model.Projection || spec.Layer != 0 {
			continue
		}
		out, in := spec.Shape[0], spec.Shape[1]
		kind := spec.Module()[strings.LastIndexByte(spec.Module(), '.')+1:]
		rest := strings.TrimPrefix(spec.Module(), "model.layers.0.")
		inputs = append(inputs,
			input{"lora_A_" + kind, []int{cfg.Layers, rank, in}},
			input{"lora_B_" + kind, []int{cfg.Layers, out, rank}})
		for i := range e.Adapters {
			a := &e.Adapters[i]
			e.stacked(c, a, "lora_A_"+kind, []int{cfg.Layers, rank, in}, rest, func(to, from []float32, _ int) { copy(to, from) })
			e.stacked(c, a, "lora_B_"+kind, []int{cfg.Layers, out, rank}, rest, func(to, from []float32, r int) {
				for row := range out {
					copy(to[row*rank:], from[row*r:(row+1)*r])
				}
			})
		}
	}
	return inputs
}

// stacked adds one factor of every layer. place copies the factor of one module, of the adapter's
// own rank, to its place.
func (e *exporter) stacked(c *constants, a *Adapter, name string, shape []int, rest string, place func(to, from []float32, rank int)) {
	c.floats("input:"+a.Name+":"+name, shape, func(_ context.Context, w io.Writer) error {
		size := shape[1] * shape[2]
		for layer := range shape[0] {
			module := "model.layers." + strconv.Itoa(layer) + "." + rest
			buf := make([]float32, size)
			if l, ok := a.open.Modules[module]; ok {
				rank := a.open.Config.RankOf(module)
				if strings.HasPrefix(name, "lora_A") {
					place(buf, l.A, rank)
				} else {
					place(buf, scaled(l.B, a.open.Config.ScaleOf(module)), rank)
				}
			}
			if err := source.WriteFloats(w, buf); err != nil {
				return err
			}
		}
		return nil
	})
}

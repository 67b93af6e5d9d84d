package mlx

import (
	"context"
	"fmt"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/directory"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/safetensors"
)

type exporter struct {
	Options
	s        *source.Source
	dtype    safetensors.DType // of scales and, if it has their values, of all plain tensors
	codes    map[string]width  // of the modules in codes
	common   width             // that most modules have
	kept     int               // matrices that are not in codes
	tensors  []directory.Tensor
	adapters []*source.Adapter
	unified  []*directory.Uniform
	notes    []string
}

// width is how a module is quantized.
type width struct{ bits, group int }

// layout lists the tensors of model.safetensors.
func (e *exporter) layout(ctx context.Context) error {
	e.codes = map[string]width{}
	if e.As != "" {
		e.dtype = directory.Types[e.As]
		e.tensors, e.kept = directory.AllRounded(e.s, e.dtype)
		return nil
	}
	for i := range e.s.Layout {
		st := &e.s.Layout[i]
		if g, _, ok := e.s.Grid(st); ok {
			a, affine := g.(grid.Affine)
			if !affine {
				return e.refuse(st)
			}
			e.codes[st.Spec.Module()], e.dtype = width{a.Bits, a.Group}, a.Scales
		} else if st.Form != artifact.Plain {
			return e.refuse(st)
		}
	}
	e.common = mostCommon(e.s, e.codes)
	// MLX computes in float32, and slower, from the first product of two types on.
	plain, err := directory.ChoosePlain(ctx, e.s, e.dtype)
	if err != nil {
		return err
	}
	if e.dtype = plain.Type; plain.Misfit != nil {
		e.notes = append(e.notes, fmt.Sprintf("%s has values that %s, the type of the scales, does not have: MLX computes in float32", plain.Misfit.Spec.Name, directory.TypeNames[e.dtype]))
	}
	for i := range e.s.Layout {
		st := &e.s.Layout[i]
		if _, ok := e.codes[st.Spec.Module()]; ok && len(st.Spec.Shape) == 2 {
			for k, suffix := range []string{".weight", ".scales", ".biases"} {
				e.tensors = append(e.tensors, directory.Copy(e.s, st.Names[k], st.Spec.Module()+suffix))
			}
			continue
		}
		if len(st.Spec.Shape) == 2 {
			e.kept++
		}
		e.tensors = append(e.tensors, plain.Tensor(e.s, st))
	}
	return nil
}

// mostCommon returns the width of most projections, of two equally common ones the first.
func mostCommon(s *source.Source, codes map[string]width) (most width) {
	counts := map[width]int{}
	for i := range s.Layout {
		spec := s.Layout[i].Spec
		w, ok := codes[spec.Module()]
		if !ok || len(spec.Shape) != 2 {
			continue
		}
		if counts[w]++; counts[w] > counts[most] {
			most = w
		}
	}
	return most
}

// refuse returns the error for a matrix that MLX has no form for.
func (e *exporter) refuse(st *artifact.StoredTensor) error {
	what, module, it := e.s.Lack(st)
	bits := e.s.Manifest.Plan.Bits
	if bits < 2 || bits > 8 || bits == 7 {
		bits = 4
	}
	return fault.Infeasiblef("%s: MLX has %s: %s has %s", e.Artifact, what, module, it).
		WithHint("afmq quantize MODEL --grid affine --bits %d --out DIR makes an artifact that it has; --as f16 writes the dequantized weights, 16 bits each", bits)
}

package compressed

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/directory"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

type exporter struct {
	Options
	s        *source.Source
	dtype    safetensors.DType       // of scales and, if it has their values, of all plain tensors
	codes    map[string]grid.Integer // of the modules in codes
	schemes  []*scheme               // the most common one last
	kept     int                     // matrices that are not in codes
	tensors  []directory.Tensor
	adapters []*source.Adapter
	ranks    []int // of the adapters
	notes    []string
}

// scheme is a grid and the modules that have it.
type scheme struct {
	grid.Integer
	modules []string
}

// layout lists the tensors of model.safetensors.
func (e *exporter) layout(ctx context.Context) error {
	e.codes = map[string]grid.Integer{}
	if e.As != "" {
		e.dtype = directory.Types[e.As]
		e.tensors, e.kept = directory.AllRounded(e.s, e.dtype)
		return nil
	}
	if err := e.readGrids(); err != nil {
		return err
	}
	plain, err := directory.ChoosePlain(ctx, e.s, e.dtype)
	if err != nil {
		return err
	}
	if e.dtype = plain.Type; plain.Misfit != nil {
		e.notes = append(e.notes, fmt.Sprintf("%s has values that %s, the type of the scales, does not have: programs that load the model in that type round them", plain.Misfit.Spec.Name, directory.TypeNames[e.dtype]))
	}
	for i := range e.s.Layout {
		st := &e.s.Layout[i]
		if g, ok := e.codes[st.Spec.Module()]; ok && len(st.Spec.Shape) == 2 {
			e.tensors = append(e.tensors, e.packed(st, g)...)
			continue
		}
		if len(st.Spec.Shape) == 2 {
			e.kept++
		}
		e.tensors = append(e.tensors, plain.Tensor(e.s, st))
	}
	return nil
}

// readGrids sets the codes and schemes of the modules.
func (e *exporter) readGrids() error {
	for i := range e.s.Layout {
		st := &e.s.Layout[i]
		g, _, ok := e.s.Grid(st)
		n, integer := g.(grid.Integer)
		switch {
		case integer && st.Spec.Role != model.Embedding:
			module := st.Spec.Module()
			e.codes[module], e.dtype = n, n.Scales
			k := slices.IndexFunc(e.schemes, func(s *scheme) bool { return s.Integer == n })
			if k < 0 {
				k = len(e.schemes)
				e.schemes = append(e.schemes, &scheme{Integer: n})
			}
			e.schemes[k].modules = append(e.schemes[k].modules, module)
		case ok || st.Form != artifact.Plain:
			return e.refuse(st)
		}
	}
	slices.SortStableFunc(e.schemes, func(a, b *scheme) int { return len(a.modules) - len(b.modules) })
	return nil
}

// refuse returns the error for a matrix in a form that the format does not have.
func (e *exporter) refuse(st *artifact.StoredTensor) error {
	what, module, it := e.s.Lack(st)
	bits := e.s.Manifest.Plan.Bits
	if bits < 2 || bits > 8 {
		bits = 4
	}
	return fault.Infeasiblef("%s: compressed-tensors has %s: %s has %s", e.Artifact, what, module, it).
		WithHint("afmq quantize MODEL --grid symmetric --bits %d --out DIR makes an artifact that it has; --as f16 writes the dequantized weights, 16 bits each", bits)
}

// packed returns the tensors of a matrix in codes (PackedQuantizationCompressor in
// compressed_tensors/compressors/pack_quantized/base.py): the codes, I32 [rows, ⌈cols·bits/32⌉],
// the scales [rows, groups], the shape, I64 [2], and zero points, I32 [⌈rows·bits/32⌉, groups].
func (e *exporter) packed(st *artifact.StoredTensor, g grid.Integer) []directory.Tensor {
	name, rows, cols := st.Spec.Module(), st.Spec.Shape[0], st.Spec.Shape[1]
	shape := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(rows)), uint64(cols))
	out := []directory.Tensor{
		directory.Bytes(safetensors.Info{Name: name + ".weight_shape", DType: safetensors.I64, Shape: []int{2}}, func() ([]byte, error) { return shape, nil }),
		directory.Copy(e.s, st.Names[0], name+".weight_packed"),
		directory.Copy(e.s, st.Names[1], name+".weight_scale"),
	}
	if g.ZeroPoint {
		out = append(out, directory.Copy(e.s, st.Names[2], name+".weight_zero_point"))
	}
	return out
}

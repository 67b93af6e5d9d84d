package directory

import (
	"context"

	"afmq/pkg/artifact"
	"afmq/pkg/export/internal/source"
	"afmq/pkg/safetensors"
)

// TypeNames are the types of weights as config.json names them.
var TypeNames = map[safetensors.DType]string{safetensors.F16: "float16", safetensors.BF16: "bfloat16", safetensors.F32: "float32"}

// Types are the types to which everything may be dequantized, by the names of the option.
var Types = map[string]safetensors.DType{"f16": safetensors.F16, "bf16": safetensors.BF16}

// AllRounded returns every tensor of an artifact, dequantized to a type, and the number of matrices.
func AllRounded(s *source.Source, t safetensors.DType) (tensors []Tensor, matrices int) {
	for i := range s.Layout {
		st := &s.Layout[i]
		tensors = append(tensors, Rounded(s, st, t))
		if len(st.Spec.Shape) == 2 {
			matrices++
		}
	}
	return tensors, matrices
}

// Plain says in which type the tensors are written that an artifact has as they were.
type Plain struct {
	Type    safetensors.DType // of the file
	Convert bool              // plain tensors of other types are converted to Type
	// Misfit is the first tensor with a value that Type does not have, because of which all keep their
	// types; nil if there is none.
	Misfit *artifact.StoredTensor
}

// ChoosePlain chooses the type of plain tensors for a file whose scales have a type, or 0 for one
// without scales: they are converted to the type of the scales if none of them loses a value.
func ChoosePlain(ctx context.Context, s *source.Source, scales safetensors.DType) (*Plain, error) {
	p := &Plain{Type: scales}
	for i := range s.Layout {
		st := &s.Layout[i]
		if st.Form != artifact.Plain {
			continue
		}
		t, _ := s.File.Tensor(st.Names[0])
		if p.Type == 0 {
			p.Type = t.DType
		}
		if t.DType == p.Type {
			continue
		}
		fits := p.Type == safetensors.F32
		if !fits {
			var err error
			if fits, err = Fits(ctx, s, st, p.Type); err != nil {
				return nil, err
			}
		}
		if !fits {
			return &Plain{Type: p.Type, Misfit: st}, nil
		}
		p.Convert = true
	}
	return p, nil
}

// Tensor returns a plain tensor in the type that was chosen.
func (p *Plain) Tensor(s *source.Source, st *artifact.StoredTensor) Tensor {
	if t, _ := s.File.Tensor(st.Names[0]); !p.Convert || t.DType == p.Type {
		return Copy(s, st.Names[0], st.Spec.Name)
	}
	return Rounded(s, st, p.Type)
}

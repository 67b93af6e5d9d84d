// Package source gives exporters the parts of an artifact: its tensors by name, in the forms in
// which a target stores them, and the adapters that go with it.
package source

import (
	"context"
	"math"
	"path/filepath"

	"afmq/internal/kernel"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// blockElements is the number of values that Plain converts at a time.
const blockElements = 1 << 20

// Source is an open artifact.
type Source struct {
	*artifact.Reader
	Runtime string // the target's runtime, for messages: "Core ML"

	tensors   map[string]*artifact.StoredTensor
	exponents map[string]int // of the scales of 8-bit matrices, by tensor
	adapters  []*Adapter     // those opened
}

// New returns the source of an artifact for a runtime.
func New(a *artifact.Reader, runtime string) *Source {
	s := &Source{Reader: a, Runtime: runtime, tensors: map[string]*artifact.StoredTensor{}, exponents: map[string]int{}}
	for i := range a.Layout {
		s.tensors[a.Layout[i].Spec.Name] = &a.Layout[i]
	}
	return s
}

// Tensor returns a tensor by its name in the checkpoint, or nil.
func (s *Source) Tensor(name string) *artifact.StoredTensor { return s.tensors[name] }

// Head returns the stored head, which may be the embedding.
func (s *Source) Head() *artifact.StoredTensor {
	if st := s.role(model.Head); st != nil {
		return st
	}
	return s.Embedding()
}

// Embedding returns the stored embedding.
func (s *Source) Embedding() *artifact.StoredTensor { return s.role(model.Embedding) }

func (s *Source) role(r model.Role) *artifact.StoredTensor {
	for i := range s.Layout {
		if s.Layout[i].Spec.Role == r {
			return &s.Layout[i]
		}
	}
	return nil
}

// Lack returns the words of an error for a matrix in a form that a runtime does not have, "RUNTIME has
// WHAT: MODULE has IT", such as "no palettes", the module and "one". A palette of a projection says
// more than the embedding before it.
func (s *Source) Lack(st *artifact.StoredTensor) (what, module, it string) {
	for i := range s.Layout {
		if x := &s.Layout[i]; x.Form == artifact.Palette && x.Spec.Role == model.Projection {
			st = x
			break
		}
	}
	what, it = "no form "+string(st.Form), "it"
	switch st.Form {
	case artifact.Palette:
		what, it = "no palettes", "one"
	case artifact.RowInt8:
		what, it = "no rows of 8 bits with one scale", "them"
	}
	return what, st.Spec.Module(), it
}

// Path is the file of the weights, for messages.
func (s *Source) Path() string { return filepath.Join(s.Dir, artifact.WeightsFile) }

// Guard runs f, which reads the mapped weights; a file that is truncated meanwhile is an error,
// not a fault.
func (s *Source) Guard(f func() error) error { return safetensors.Guard(s.Path(), f) }

// Round rounds values of the tensor name to fp16. A value that is too large is an error.
func (s *Source) Round(half []uint16, values []float32, name string) error {
	kernel.F32ToF16(half, values)
	for i, h := range half {
		if h&0x7c00 == 0x7c00 {
			return fault.Inputf(s.Path(), "tensor %q: %v is too large for fp16, the arithmetic of %s", name, values[i], s.Runtime)
		}
	}
	return nil
}

// Plain calls emit with the values of a tensor that is stored as it was, in order and in
// pieces.
func (s *Source) Plain(ctx context.Context, st *artifact.StoredTensor, emit func([]float32) error) error {
	fill, err := s.Rows(st)
	if err != nil {
		return err
	}
	rows, cols := st.Spec.Shape[0], 1
	if len(st.Spec.Shape) == 2 {
		cols = st.Spec.Shape[1]
	}
	block := min(rows, max(1, blockElements/cols))
	buf := make([]float32, block*cols)
	for r := 0; r < rows; r += block {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(block, rows-r)
		if err := fill(buf[:n*cols], r, r+n); err != nil {
			return err
		}
		if err := emit(buf[:n*cols]); err != nil {
			return err
		}
	}
	return nil
}

// Int8Exponent returns the power of two by which the scales of an 8-bit matrix are multiplied so
// that they keep their precision in fp16; what the matrix yields is divided by it. It is 0 if
// all scales are normal numbers of fp16, at least 2^-14 (or zero, a row of zeros). Otherwise it
// brings the largest weight to between 1/2 and 1.
func (s *Source) Int8Exponent(st *artifact.StoredTensor, scale []float32) int {
	if k, ok := s.exponents[st.Spec.Name]; ok {
		return k
	}
	least, most := float32(math.MaxFloat32), float32(0)
	for _, x := range scale {
		if x > 0 {
			least, most = min(least, x), max(most, x)
		}
	}
	k := 0
	if most > 0 && least < 1.0/(1<<14) {
		_, e := math.Frexp(127 * float64(most))
		k = min(max(0, -e), 14)
	}
	s.exponents[st.Spec.Name] = k
	return k
}

// Exponent returns what Int8Exponent returned for a tensor, and 0 if it was not called.
func (s *Source) Exponent(st *artifact.StoredTensor) int { return s.exponents[st.Spec.Name] }

// ScaledInt8 returns the scales of an 8-bit matrix multiplied by 2^Int8Exponent.
func (s *Source) ScaledInt8(st *artifact.StoredTensor, scale []float32) []float32 {
	factor := float32(math.Ldexp(1, s.Int8Exponent(st, scale)))
	out := make([]float32, len(scale))
	for i, x := range scale {
		out[i] = x * factor
	}
	return out
}

// Adapter is an open adapter under the name that it has in the export.
type Adapter struct {
	Name string
	*adapter.Adapter
	Digest string // hex SHA-256 of its weights' file
}

// OpenAdapter opens an adapter of the artifact and hashes its weights.
func (s *Source) OpenAdapter(ctx context.Context, name, dir string, allowUnbound bool) (*Adapter, error) {
	ad, err := adapter.Open(dir, s.Dir, s.Config, allowUnbound)
	if err != nil {
		return nil, err
	}
	d, err := artifact.HashFile(ctx, filepath.Join(ad.Dir, adapter.WeightsFile), adapter.WeightsFile, nil)
	if err != nil {
		return nil, err
	}
	a := &Adapter{Name: name, Adapter: ad, Digest: d.SHA256}
	s.adapters = append(s.adapters, a)
	return a, nil
}

// Metadata is what an export says about its origin: the artifact's content hash, the version of the
// program unless it is empty, and the digests of the adapters opened so far.
func (s *Source) Metadata(version string) map[string]string {
	m := map[string]string{"afmq.content_hash": s.Manifest.ContentHash}
	if version != "" {
		m["afmq.version"] = version
	}
	for _, a := range s.adapters {
		m["afmq.adapter."+a.Name] = a.Digest
	}
	return m
}

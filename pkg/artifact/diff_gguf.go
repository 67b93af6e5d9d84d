package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	"afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/grid"
	"afmq/pkg/progress"
)

// openDiffGGUF opens a GGUF file. Its tensors get the names, the order of rows and the digests that
// an artifact has that stores the same, so that both can be compared byte for byte.
func openDiffGGUF(ctx context.Context, pool *compute.Pool, path string, p progress.Reporter) (*diffModel, error) {
	g, err := ggufmodel.Open(path)
	if err != nil {
		return nil, err
	}
	s := &diffModel{dir: path, cfg: g.Config, gguf: g, digests: map[string]TensorDigest{}, bytes: g.File.Bytes()}
	work := int64(0)
	for _, t := range g.Tensors {
		work += t.Stored.Bytes()
	}
	p.Stage(progress.Stage{Name: StageHash, Work: work})
	defer p.Done()
	digests, errs := make([]TensorDigest, len(g.Tensors)), make([]error, len(g.Tensors))
	pool.Run(len(g.Tensors), func(_, i int) {
		digests[i], errs[i] = digestGGUF(ctx, &g.Tensors[i])
		if errs[i] == nil {
			p.Advance(g.Tensors[i].Stored.Bytes())
		}
	})
	for i := range g.Tensors {
		t := &g.Tensors[i]
		if errs[i] != nil {
			s.close()
			return nil, errs[i]
		}
		s.digests[digests[i].Name] = digests[i]
		st := storedGGUF(t)
		st.Names = []string{digests[i].Name}
		s.layout = append(s.layout, st)
	}
	return s, nil
}

// storedGGUF describes a tensor of a GGUF file by its name there.
func storedGGUF(t *ggufmodel.Tensor) StoredTensor {
	st := StoredTensor{Spec: t.Spec, Form: Plain, Bits: 16, Bytes: t.Stored.Bytes(), Names: []string{t.Name()}}
	if kind := t.Stored.Type; kind.HasCodes() {
		g := grid.Block{Type: kind}
		st.Form, st.Bits = GridForm(g), g.CodeBits()
	} else if kind == ggml.F32 {
		st.Bits = 32
	}
	return st
}

// digestGGUF returns the digest of a tensor as an artifact stores it: rows in the order of the
// checkpoint, vectors in F32.
func digestGGUF(ctx context.Context, t *ggufmodel.Tensor) (TensorDigest, error) {
	d := TensorDigest{Name: t.Spec.Name, DType: t.Stored.Type.String(), Shape: slices.Clone(t.Spec.Shape)}
	if len(t.Spec.Shape) == 1 {
		v, err := t.Vector()
		var data []byte
		for _, x := range v {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
		d.DType, d.SHA256 = "F32", infile.SHA256(data)
		return d, err
	}
	rows, size := t.Spec.Shape[0], t.Stored.RowBytes()
	if t.Stored.Type.HasCodes() {
		d.Name += "." + grid.Block{Type: t.Stored.Type}.String()
		d.DType, d.Shape = "U8", []int{rows, size}
	}
	h := sha256.New()
	buf := make([]byte, min(rows, max(1, digestChunk/size))*size)
	for r := 0; r < rows; r += len(buf) / size {
		if err := ctx.Err(); err != nil {
			return d, err
		}
		part := buf[:min(rows-r, len(buf)/size)*size]
		if err := t.ReadRows(part, r); err != nil {
			return d, err
		}
		h.Write(part)
	}
	d.SHA256 = hex.EncodeToString(h.Sum(nil))
	return d, nil
}

// ggufRows returns the function that computes rows of a tensor in float32.
func ggufRows(t *ggufmodel.Tensor) (func(dst []float32, r0, r1 int) error, error) {
	if len(t.Spec.Shape) == 1 {
		v, err := t.Vector()
		return func(dst []float32, r0, r1 int) error { copy(dst, v[r0:r1]); return nil }, err
	}
	size := t.Stored.RowBytes()
	return func(dst []float32, r0, r1 int) error {
		data := make([]byte, (r1-r0)*size)
		if err := t.ReadRows(data, r0); err != nil {
			return err
		}
		return t.Stored.Type.Dequantize(dst, data)
	}, nil
}

// refuseReference returns an error unless a model may be the reference: one with 16 or 32 bits.
func (s *diffModel) refuseReference() error {
	if s.artifact != nil {
		return fault.Usagef("the reference %s is an artifact; relative errors are measured against a checkpoint", s.dir)
	}
	for i := range s.layout {
		if _, block := s.layout[i].Form.Block(); block {
			return fault.Usagef("the reference %s is quantized: %s has the form %s; relative errors are measured against a checkpoint", s.dir, s.layout[i].Spec.Module(), s.layout[i].Form)
		}
	}
	return nil
}

// compareKeys lists the keys that differ between two GGUF files, in the order of a, then of b.
func compareKeys(a, b *gguf.File) []KeyDifference {
	out := []KeyDifference{}
	text := func(f *gguf.File, key string) string {
		v, ok := f.Value(key)
		if !ok {
			return ""
		}
		s := fmt.Sprint(v)
		if reflect.TypeOf(v).Kind() == reflect.Slice || len(s) > 80 {
			s = infile.SHA256([]byte(fmt.Sprintf("%T %q", v, v)))
		}
		return s
	}
	for _, kv := range a.Metadata() {
		if x, y := text(a, kv.Key), text(b, kv.Key); x != y {
			out = append(out, KeyDifference{kv.Key, x, y})
		}
	}
	for _, kv := range b.Metadata() {
		if _, both := a.Value(kv.Key); !both {
			out = append(out, KeyDifference{kv.Key, "", text(b, kv.Key)})
		}
	}
	return out
}

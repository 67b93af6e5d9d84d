package gguf

import (
	"context"
	"encoding/binary"
	"fmt"

	"afmq/internal/kernel"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/ggml"
	file "afmq/pkg/gguf"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
)

// rowReader sets dst, a whole number of rows, to the rows from the given one, in the bytes in
// which the file has them. It may be called concurrently.
type rowReader func(dst []byte, row int) error

// tensor is a tensor of a file: how it is described, and what computes its rows when it is
// written. A vector is a column: its rows have one element.
type tensor struct {
	info     file.Info
	rows     rowReader
	rowBytes int
	release  func() // called when the tensor is written; may be nil
}

// layout lists the tensors of the model's file.
func (e *exporter) layout(rope []factors) error {
	for i := range e.s.Layout {
		st := &e.s.Layout[i]
		t, read, err := e.form(st)
		if err != nil {
			return err
		}
		rowBytes := 4
		if len(st.Spec.Shape) == 2 {
			rowBytes = t.RowBytes(st.Spec.Shape[1])
		}
		e.tensors = append(e.tensors, tensor{
			info: file.Info{Name: ggufmodel.TensorName(st.Spec), Type: t, Shape: st.Spec.Shape},
			rows: reordered(read, e.arch.CheckpointRow(st.Spec, e.s.Config.HeadDim), rowBytes), rowBytes: rowBytes,
			release: func() { e.s.Release(st) },
		})
		if st.Spec.Role != model.Embedding {
			continue
		}
		for _, f := range rope {
			e.tensors = append(e.tensors, plainTensor(f.name, ggml.F32, []int{len(f.values)}, f.values))
		}
	}
	return nil
}

// form returns the type in which a stored tensor is written, and its rows. Vectors are float32,
// which llama.cpp needs. A matrix has the type of Options.As, or without one the type in which
// the artifact has it; blocks are copied.
func (e *exporter) form(st *artifact.StoredTensor) (ggml.Type, rowReader, error) {
	t := ggml.F32
	if len(st.Spec.Shape) == 2 {
		if kind, block := st.Form.Block(); block && e.As == "" {
			return kind, e.blocks(st, kind), nil
		}
		var ok bool
		if t, ok = e.matrixType(); !ok {
			if t, ok = e.storedType(st); !ok {
				return 0, nil, e.refuseForm()
			}
		}
	}
	read, err := e.dense(st, t)
	return t, read, err
}

// storedType returns the type of a matrix that the artifact stores as it was, or false.
func (e *exporter) storedType(st *artifact.StoredTensor) (ggml.Type, bool) {
	if st.Form != artifact.Plain {
		return 0, false
	}
	t, _ := e.s.File.Tensor(st.Names[0])
	return ggml.ParseType(t.DType.String())
}

// refuseForm returns the error for the first matrix whose form GGUF does not have; palettes, of
// which there are most, come first.
func (e *exporter) refuseForm() error {
	var first *artifact.StoredTensor
	for i := range e.s.Layout {
		st := &e.s.Layout[i]
		_, block := st.Form.Block()
		if block || st.Form == artifact.Plain {
			continue
		}
		if first == nil || st.Form == artifact.Palette && first.Form != artifact.Palette {
			first = st
		}
	}
	what := fmt.Sprintf("GGUF has no grid %s: %s has it", first.Form, first.Spec.Module())
	switch first.Form {
	case artifact.Palette:
		what = fmt.Sprintf("GGUF has no palettes: %s has one", first.Spec.Module())
	case artifact.RowInt8:
		what = fmt.Sprintf("GGUF has no rows of 8 bits with one scale: %s has them", first.Spec.Module())
	}
	return fault.Infeasiblef("%s: %s", e.Artifact, what).
		WithHint("afmq quantize MODEL --grid gguf --types q4_k makes an artifact that it has; --as f16 writes the dequantized weights, 16 bits each")
}

// blocks returns the rows of a matrix in blocks, as the artifact has them.
func (e *exporter) blocks(st *artifact.StoredTensor, t ggml.Type) rowReader {
	x, _ := e.s.File.Tensor(st.Names[0])
	n := t.RowBytes(st.Spec.Shape[1])
	return func(dst []byte, row int) error {
		return e.s.Guard(func() error { copy(dst, x.Bytes()[row*n:]); return nil })
	}
}

// dense returns the rows of a tensor in F16, BF16 or F32. A value that is too large for F16 is an
// error.
func (e *exporter) dense(st *artifact.StoredTensor, t ggml.Type) (rowReader, error) {
	fill, err := e.s.Rows(st)
	if err != nil {
		return nil, err
	}
	cols := 1
	if len(st.Spec.Shape) == 2 {
		cols = st.Spec.Shape[1]
	}
	rowBytes := t.RowBytes(cols)
	return func(dst []byte, row int) error {
		n := len(dst) / rowBytes
		values := make([]float32, n*cols)
		if err := e.s.Guard(func() error { return fill(values, row, row+n) }); err != nil {
			return err
		}
		if t == ggml.F16 {
			return halves(dst, values, func(i int) string {
				return fmt.Sprintf("%s: tensor %q: %v at row %d, column %d", e.s.Path(), st.Spec.Name, values[i], row+i/cols, i%cols)
			})
		}
		return t.Quantize(dst, values, nil)
	}, nil
}

// halves rounds values to F16. A value that is too large is an error, which begins with what at
// returns.
func halves(dst []byte, values []float32, at func(i int) string) error {
	half := make([]uint16, len(values))
	kernel.F32ToF16(half, values)
	for i, h := range half {
		if h&0x7c00 == 0x7c00 {
			return fault.Infeasiblef("%s is too large for F16", at(i)).WithHint("write it with --as bf16 or --as f32")
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return nil
}

// reordered returns a reader of rows in another order; order may be nil.
func reordered(rows rowReader, order func(int) int, rowBytes int) rowReader {
	if order == nil {
		return rows
	}
	return func(dst []byte, row int) error {
		for i := 0; i < len(dst); i += rowBytes {
			if err := rows(dst[i:i+rowBytes], order(row)); err != nil {
				return err
			}
			row++
		}
		return nil
	}
}

// plainTensor returns a tensor of the values in memory, F16 or F32.
func plainTensor(name string, t ggml.Type, shape []int, values []float32) tensor {
	cols := 1
	if len(shape) == 2 {
		cols = shape[1]
	}
	rowBytes := t.RowBytes(cols)
	return tensor{
		info: file.Info{Name: name, Type: t, Shape: shape}, rowBytes: rowBytes,
		rows: func(dst []byte, row int) error {
			return t.Quantize(dst, values[row*cols:row*cols+len(dst)/rowBytes*cols], nil)
		},
	}
}

// blockBytes is the size of what is computed between two writes.
const blockBytes = 8 << 20

// write writes the tensors of a file. The rows of a block are computed by all workers; the error
// of the first of them is returned.
func (e *exporter) write(ctx context.Context, w *file.Writer, tensors []tensor) error {
	threads := e.pool.Threads()
	var buf []byte
	for i := range tensors {
		t := &tensors[i]
		rows := t.info.Shape[0]
		block := min(rows, max(1, blockBytes/t.rowBytes))
		for r := 0; r < rows; r += block {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(block, rows-r)
			if cap(buf) < n*t.rowBytes {
				buf = make([]byte, n*t.rowBytes)
			}
			buf = buf[:n*t.rowBytes]
			step := (n + 4*threads - 1) / (4 * threads)
			errs := make([]error, (n+step-1)/step)
			e.pool.Run(len(errs), func(_, k int) {
				a, b := k*step, min(n, (k+1)*step)
				errs[k] = t.rows(buf[a*t.rowBytes:b*t.rowBytes], r+a)
			})
			for _, err := range errs {
				if err != nil {
					return err
				}
			}
			if err := w.Append(buf); err != nil {
				return err
			}
			e.Progress.Advance(int64(len(buf)))
		}
		if t.release != nil {
			t.release()
		}
	}
	return nil
}

// fileType returns general.file_type, which says what type most matrices have
// (enum llama_ftype in llama.h).
func fileType(tensors []tensor) uint32 {
	counts := map[ggml.Type]int{}
	for _, t := range tensors {
		if len(t.info.Shape) == 2 {
			counts[t.info.Type]++
		}
	}
	most := ggml.F32
	for _, t := range ggml.Types() {
		if counts[t] > counts[most] {
			most = t
		}
	}
	return fileTypes[most]
}

// fileTypes are the values of general.file_type. For types that llama.cpp mixes with others they
// are those of its small mixtures.
var fileTypes = map[ggml.Type]uint32{
	ggml.F32: 0, ggml.F16: 1, ggml.BF16: 32, ggml.Q4_0: 2, ggml.Q4_1: 3, ggml.Q8_0: 7, ggml.Q5_0: 8, ggml.Q5_1: 9,
	ggml.Q2_K: 10, ggml.Q3_K: 11, ggml.Q4_K: 14, ggml.Q5_K: 16, ggml.Q6_K: 18, ggml.IQ4_NL: 25, ggml.IQ4_XS: 30,
}

// infos returns the descriptions of tensors, and how many bytes of data they have.
func infos(tensors []tensor) (list []file.Info, bytes int64) {
	for _, t := range tensors {
		n, err := t.info.Bytes()
		if err != nil {
			panic(fmt.Sprintf("gguf: %v", err)) // shapes and types are those of the artifact
		}
		list, bytes = append(list, t.info), bytes+n
	}
	return list, bytes
}

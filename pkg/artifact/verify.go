package artifact

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/palettize"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// Verification describes an artifact that [Verify] found intact.
type Verification struct {
	ContentHash string        // lower-case hex; the hash that an adapter names as its base
	ToolVersion string        // of the program that wrote the artifact
	Files       int           // in the directory, the manifest and its digest included
	Tensors     int           // in model.safetensors
	Bytes       int64         // of all files
	BPW         BitsPerWeight // computed from the tensors
	Ledger      Ledger        // computed from the tensors
}

// VerifyOptions are the options of [Verify]. The zero value works.
type VerifyOptions struct {
	Pool     *compute.Pool     // nil for Threads workers of its own
	Threads  int               // where Pool is nil; 0 for all cores
	Progress progress.Reporter // nil for none
}

// Verify reads every byte of the artifact in dir and checks it against manifest.json:
//
//   - the files in the directory are those listed, with the listed sizes and digests;
//   - the tensors are those listed, with the listed types, shapes and digests;
//   - ledger, bits per weight, content hash, the form of each matrix and the
//     quantization_config of config.json follow from the tensors;
//   - look-up tables and scales are finite, tables ascend, and the padding bits of indices
//     are zero.
//
// The first difference is an error of kind [fault.Input] that names the file and the tensor.
//
// Verification detects damage, not forgery: whoever rewrites the manifest as well can make a
// consistent artifact of any content.
func Verify(ctx context.Context, dir string, opts VerifyOptions) (*Verification, error) {
	a, v, err := OpenVerified(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	a.Close()
	return v, nil
}

// OpenVerified is [Verify] that leaves the artifact open: the tensors of the reader are those
// that were verified, whatever happens to the directory afterwards.
func OpenVerified(ctx context.Context, dir string, opts VerifyOptions) (*Reader, *Verification, error) {
	p := progress.Begin(opts.Progress, StageVerify)
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	a, total, err := open(dir)
	if err != nil {
		return nil, nil, err
	}
	m := a.Manifest
	p.Stage(progress.Stage{Name: StageVerify, Work: total + m.Ledger.Total - m.Ledger.Container}) // every file, and every tensor again
	defer p.Done()
	if err := a.verify(ctx, pool, p); err != nil {
		a.Close()
		return nil, nil, err
	}
	v := &Verification{
		ContentHash: m.ContentHash, ToolVersion: m.ToolVersion,
		Files: len(m.Files) + 2, Tensors: len(m.Tensors),
		BPW: m.BPW, Ledger: m.Ledger, Bytes: total,
	}
	for _, name := range []string{ManifestFile, ManifestDigestFile} {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil {
			v.Bytes += st.Size()
		}
	}
	return a, v, nil
}

func (a *Reader) verify(ctx context.Context, pool *compute.Pool, p progress.Reporter) error {
	if err := a.CheckTensors(ctx, pool, p); err != nil {
		return err
	}
	if err := a.checkPlan(); err != nil {
		return err
	}
	for _, f := range a.Manifest.Files {
		if err := a.Manifest.CheckFile(ctx, a.Dir, f.Name, p.Advance); err != nil {
			return err
		}
	}
	return a.checkTokenizer()
}

// CheckTensors checks the data of every tensor against its digest, and for values that no
// valid artifact has. pool may be nil.
func (a *Reader) CheckTensors(ctx context.Context, pool *compute.Pool, p progress.Reporter) error {
	return inParallel(pool, len(a.Layout), func(i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		st := &a.Layout[i]
		err := a.CheckTensor(ctx, st)
		a.Release(st)
		if err == nil {
			p.Advance(st.Bytes)
		}
		return err
	})
}

// CheckTensor checks the data of one tensor of the model as [Reader.CheckTensors] does.
func (a *Reader) CheckTensor(ctx context.Context, st *StoredTensor) error {
	if err := a.checkDigests(ctx, st); err != nil {
		return err
	}
	return a.checkValues(st)
}

func (a *Reader) checkDigests(ctx context.Context, st *StoredTensor) error {
	for _, name := range st.Names {
		t, _ := a.File.Tensor(name)
		if err := CheckTensor(ctx, t, a.Digests[name]); err != nil {
			return err
		}
	}
	return nil
}

// checkTokenizer checks that the tokenizer can be read, and that it is the one whose digest
// the manifest has.
func (a *Reader) checkTokenizer() error {
	if _, err := model.OpenTokenizer(a.Dir, a.Config); err != nil {
		return err
	}
	i := slices.IndexFunc(a.Manifest.Files, func(f FileDigest) bool { return f.Name == TokenizerFile })
	if i < 0 || a.Manifest.Files[i].SHA256 != a.Manifest.Tokenizer {
		return fault.Inputf(filepath.Join(a.Dir, ManifestFile), "key \"tokenizer\" is not the SHA-256 listed for %s", TokenizerFile)
	}
	return nil
}

func (a *Reader) checkValues(st *StoredTensor) error {
	t, _ := a.File.Tensor(st.Names[0])
	err := safetensors.Guard(t.Path(), func() error {
		switch st.Form {
		case Palette:
			m, err := a.Palette(st)
			if err != nil {
				return err
			}
			if err := m.Validate(); err != nil {
				return err
			}
			return checkAscending(m)
		case RowInt8:
			q, scale, err := a.Int8(st)
			if err != nil {
				return err
			}
			return checkRows8(q, scale)
		}
		if st.Form.OnGrid() {
			return a.checkGrid(st)
		}
		return t.CheckFinite()
	})
	if err != nil && fault.KindOf(err) == fault.Unexpected {
		err = fault.Inputf(t.Path(), "tensor %q: %v", st.Spec.Name, err)
	}
	return err
}

// checkGrid returns an error for codes and scales that stand for weights that are not finite.
func (a *Reader) checkGrid(st *StoredTensor) error {
	if g, data, _ := a.Grid(st); g != nil {
		if n, ok := g.(grid.Integer); ok {
			if err := n.CheckPadding(data, st.Spec.Shape[0], st.Spec.Shape[1]); err != nil {
				return err
			}
		}
	}
	fill, err := a.Rows(st)
	if err != nil {
		return err
	}
	row := make([]float32, st.Spec.Shape[1])
	for r := range st.Spec.Shape[0] {
		if err := fill(row, r, r+1); err != nil {
			return err
		}
		for i, v := range row {
			if !(v >= -maxFloat32 && v <= maxFloat32) {
				return fmt.Errorf("it stands for %v in row %d, column %d", v, r, i)
			}
		}
	}
	return nil
}

// checkAscending returns an error for a look-up table that does not ascend.
func checkAscending(m *palettize.Matrix) error {
	k := 1 << m.Bits
	table := make([]float32, k)
	for g := range m.Groups() {
		kernel.F16ToF32(table, m.LUT[g*k:(g+1)*k])
		if !slices.IsSorted(table) {
			return fmt.Errorf("look-up table %d does not ascend", g)
		}
	}
	return nil
}

// checkRows8 returns an error for values that symmetric 8-bit rows do not have.
func checkRows8(q []int8, scale []float32) error {
	for i, x := range q {
		if x == -128 {
			return fmt.Errorf("holds -128 at index %d", i)
		}
	}
	for i, s := range scale {
		if !(s >= 0) || s > maxFloat32 {
			return fmt.Errorf("scale holds %v at index %d", s, i)
		}
	}
	return nil
}

const maxFloat32 = 0x1.fffffep127

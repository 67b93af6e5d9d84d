package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// Stages that functions of this package report.
const (
	StageHash    = "hash weights"
	StageVerify  = "verify"
	StageCompare = "compare"
)

// digestChunk is how many bytes are hashed between two checks of the context.
const digestChunk = 4 << 20

// NewTensorDigest returns the digest of a tensor with these bytes.
func NewTensorDigest(info safetensors.Info, data []byte) TensorDigest {
	return TensorDigest{Name: info.Name, DType: info.DType.String(), Shape: append([]int{}, info.Shape...), SHA256: infile.SHA256(data)}
}

// DigestTensor hashes the data of a mapped tensor. Errors are those of reading the file, of
// kind [fault.Input], and ctx.Err().
func DigestTensor(ctx context.Context, t *safetensors.Tensor) (d TensorDigest, err error) {
	err = safetensors.Guard(t.Path(), func() error {
		h := sha256.New()
		at := int64(0)
		for data := range slices.Chunk(t.Bytes(), digestChunk) {
			if err := ctx.Err(); err != nil {
				return err
			}
			h.Write(data)
			// A page that is read again comes from the system's cache.
			t.ReleasePart(at, at+int64(len(data)))
			at += int64(len(data))
		}
		d = TensorDigest{Name: t.Name, DType: t.DType.String(), Shape: append([]int{}, t.Shape...), SHA256: hex.EncodeToString(h.Sum(nil))}
		return nil
	})
	return d, err
}

// CheckTensor hashes the data of a tensor and returns an error of kind [fault.Input] unless
// type, shape and digest are those of want, which is from a manifest.
func CheckTensor(ctx context.Context, t *safetensors.Tensor, want TensorDigest) error {
	if t.DType.String() != want.DType || !slices.Equal(t.Shape, want.Shape) {
		return fault.Inputf(t.Path(), "tensor %q is %s %v; %s lists %s %v", t.Name, t.DType, t.Shape, ManifestFile, want.DType, want.Shape)
	}
	got, err := DigestTensor(ctx, t)
	if err != nil {
		return err
	}
	if got.SHA256 != want.SHA256 {
		return fault.Inputf(t.Path(), "tensor %q does not match %s: SHA-256 is %s, expected %s", t.Name, ManifestFile, got.SHA256, want.SHA256)
	}
	return nil
}

// CheckFile hashes the file name of the artifact in dir and returns an error of kind
// [fault.Input] unless m lists it with this size and digest. advance, which may be nil, is
// called with the number of bytes read since the last call.
func (m *Manifest) CheckFile(ctx context.Context, dir, name string, advance func(int64)) error {
	path := filepath.Join(dir, name)
	i := slices.IndexFunc(m.Files, func(f FileDigest) bool { return f.Name == name })
	if i < 0 {
		return fault.Inputf(path, "is not listed in %s", ManifestFile)
	}
	got, err := HashFile(ctx, path, name, advance)
	if err != nil {
		return err
	}
	if want := m.Files[i]; got != want {
		return fault.Inputf(path, "does not match %s: SHA-256 is %s, expected %s", ManifestFile, got.SHA256, want.SHA256)
	}
	return nil
}

// CheckTensors hashes the tensors of the checkpoint or artifact in dir that want lists, and
// returns an error of kind [fault.Input] for the first that is missing or differs. owner
// says in the error whose tensors want lists: "the checkpoint that …". It is the stage
// [StageHash]. pool and p may be nil.
func CheckTensors(ctx context.Context, pool *compute.Pool, dir, owner string, want []TensorDigest, p progress.Reporter) error {
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	p = progress.Begin(p, StageHash)
	p.Stage(progress.Stage{Name: StageHash, Work: ckpt.Bytes()})
	defer p.Done()
	return inParallel(pool, len(want), func(i int) error {
		t, ok := ckpt.Tensor(want[i].Name)
		if !ok {
			return fault.Inputf(dir, "tensor %q of %s is missing", want[i].Name, owner)
		}
		got, err := DigestTensor(ctx, t)
		if err == nil && got.SHA256 != want[i].SHA256 {
			err = fault.Inputf(t.Path(), "tensor %q is not that of %s", want[i].Name, owner)
		}
		if err == nil {
			p.Advance(int64(len(t.Bytes())))
		}
		return err
	})
}

// IsSource returns nil if the checkpoint in dir is the one that the artifact was made from:
// the same config.json and the same tensors. An error of kind [fault.Input] names the first
// difference. It is the stage [StageHash]. pool and p may be nil.
func (m *Manifest) IsSource(ctx context.Context, pool *compute.Pool, dir string, p progress.Reporter) error {
	path := filepath.Join(dir, ConfigFile)
	data, err := model.ReadConfigFile(dir)
	if err != nil {
		return err
	}
	if infile.SHA256(data) != m.Source.Config {
		return fault.Inputf(path, "is not that of the checkpoint that the artifact was made from")
	}
	return CheckTensors(ctx, pool, dir, "the checkpoint that the artifact was made from", m.Source.Tensors, p)
}

// DigestCheckpoint returns the digest of config.json and all tensors of the checkpoint in
// dir, as [SourceDigest] defines it, in lower-case hex. It is the stage [StageHash]. pool and p
// may be nil.
func DigestCheckpoint(ctx context.Context, pool *compute.Pool, dir string, p progress.Reporter) (string, error) {
	config, err := model.ReadConfigFile(dir)
	if err != nil {
		return "", err
	}
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		return "", err
	}
	defer ckpt.Close()
	p = progress.Begin(p, StageHash)
	p.Stage(progress.Stage{Name: StageHash, Work: ckpt.Bytes()})
	defer p.Done()
	names := ckpt.Names()
	tensors := make([]TensorDigest, len(names))
	err = inParallel(pool, len(names), func(i int) (err error) {
		t, _ := ckpt.Tensor(names[i])
		if tensors[i], err = DigestTensor(ctx, t); err == nil {
			p.Advance(int64(len(t.Bytes())))
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return NewSourceDigest(infile.SHA256(config), tensors).Digest, nil
}

// inParallel calls f for each i in [0, n) on the pool, without its context, and returns the error
// of the smallest i that has one.
func inParallel(pool *compute.Pool, n int, f func(i int) error) error {
	errs := make([]error, n)
	pool.WithoutContext().Run(n, func(_, i int) { errs[i] = f(i) })
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// DigestFile returns the SHA-256 of the file at path in lower-case hex. It is the stage [StageHash].
// Errors are those of [HashFile].
func DigestFile(ctx context.Context, path string, p progress.Reporter) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fault.Reading(path, err)
	}
	p = progress.Begin(p, StageHash)
	p.Stage(progress.Stage{Name: StageHash, Work: info.Size()})
	defer p.Done()
	d, err := HashFile(ctx, path, filepath.Base(path), p.Advance)
	return d.SHA256, err
}

// HashFile returns the digest of the file at path, listed as name. advance, which may be
// nil, is called with the number of bytes read since the last call. Errors are of kind
// [fault.Input], and ctx.Err().
func HashFile(ctx context.Context, path, name string, advance func(int64)) (FileDigest, error) {
	f, _, err := infile.Open(path)
	if err != nil {
		return FileDigest{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := copyChunks(ctx, h, f, advance)
	if ctx.Err() != nil {
		return FileDigest{}, ctx.Err() // not an error of the file
	}
	if err != nil {
		return FileDigest{}, fault.Reading(path, err)
	}
	return FileDigest{Name: name, Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// copyChunks copies until the end of r, or until the context ends.
func copyChunks(ctx context.Context, w io.Writer, r io.Reader, advance func(int64)) (int64, error) {
	var total int64
	buf := make([]byte, 1<<18)
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return total, err
			}
			total += int64(n)
			if advance != nil {
				advance(int64(n))
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

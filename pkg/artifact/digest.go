package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"

	"afmq/internal/infile"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// digestChunk is how much is hashed between two looks at the context.
const digestChunk = 4 << 20

// DigestTensor returns the digest of a mapped tensor.
func DigestTensor(ctx context.Context, t *safetensors.Tensor) (d TensorDigest, err error) {
	err = safetensors.Guard(t.Path(), func() error {
		h := sha256.New()
		for data := t.Bytes(); len(data) > 0; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(len(data), digestChunk)
			h.Write(data[:n])
			data = data[n:]
		}
		d = TensorDigest{Name: t.Name, DType: t.DType.String(), Shape: append([]int{}, t.Shape...), SHA256: hex.EncodeToString(h.Sum(nil))}
		return nil
	})
	return d, err
}

// CheckTensors hashes the tensors of the checkpoint or artifact in dir that are listed
// and returns an error, fault.Input, for the first that is missing or differs; whose
// names where the digests come from.
func CheckTensors(ctx context.Context, pool *compute.Pool, dir, whose string, want []TensorDigest) error {
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	errs := make([]error, len(want))
	pool.Run(len(want), func(_, i int) {
		t, ok := ckpt.Tensor(want[i].Name)
		if !ok {
			errs[i] = fault.Inputf(dir, "tensor %q of %s is missing", want[i].Name, whose)
			return
		}
		var got TensorDigest
		if got, errs[i] = DigestTensor(ctx, t); errs[i] == nil && got.SHA256 != want[i].SHA256 {
			errs[i] = fault.Inputf(t.Path(), "tensor %q is not that of %s", want[i].Name, whose)
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// IsSource checks that the checkpoint in dir is the one that an artifact was made from:
// the same config.json and the same tensors. Errors are fault.Input.
func (m *Manifest) IsSource(ctx context.Context, pool *compute.Pool, dir string) error {
	path := filepath.Join(dir, "config.json")
	data, err := infile.Read(path, model.MaxConfigBytes)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != m.Source.Config {
		return fault.Inputf(path, "is not that of the checkpoint that the artifact was made from")
	}
	return CheckTensors(ctx, pool, dir, "the checkpoint that the artifact was made from", m.Source.Tensors)
}

// DigestCheckpoint returns the digest of all that the checkpoint in dir holds; see
// [SourceDigest].
func DigestCheckpoint(ctx context.Context, pool *compute.Pool, dir string) (string, error) {
	path := filepath.Join(dir, "config.json")
	config, err := infile.Read(path, model.MaxConfigBytes)
	if err != nil {
		return "", err
	}
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		return "", err
	}
	defer ckpt.Close()
	names := ckpt.Names()
	tensors, errs := make([]TensorDigest, len(names)), make([]error, len(names))
	pool.Run(len(names), func(_, i int) {
		t, _ := ckpt.Tensor(names[i])
		tensors[i], errs[i] = DigestTensor(ctx, t)
	})
	for _, err := range errs {
		if err != nil {
			return "", err
		}
	}
	sum := sha256.Sum256(config)
	return NewSourceDigest(hex.EncodeToString(sum[:]), tensors).Digest, nil
}

package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// NewTensorDigest returns the digest of a tensor with these bytes.
func NewTensorDigest(info safetensors.Info, data []byte) TensorDigest {
	return TensorDigest{Name: info.Name, DType: info.DType.String(), Shape: append([]int{}, info.Shape...), SHA256: infile.SHA256(data)}
}

// HashFile returns the digest of the file at path, listed as name. advance, which may be
// nil, is called with the number of bytes read since the last call.
func HashFile(ctx context.Context, path, name string, advance func(int64)) (FileDigest, error) {
	f, _, err := infile.Open(path)
	if err != nil {
		return FileDigest{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := copyChunks(ctx, h, f, advance)
	if ctx.Err() != nil {
		return FileDigest{}, ctx.Err() // the file is not to blame
	}
	if err != nil {
		return FileDigest{}, fault.Reading(path, err)
	}
	return FileDigest{Name: name, Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// copyChunks copies until the end of r. A cancelled context ends it with the
// context's error.
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

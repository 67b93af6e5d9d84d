package quantize

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"afmq/internal/fault"
	"afmq/internal/infile"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// digestOf describes a tensor with these bytes.
func digestOf(info safetensors.Info, data []byte) infer.TensorDigest {
	return infer.TensorDigest{Name: info.Name, DType: info.DType.String(), Shape: append([]int{}, info.Shape...), SHA256: hexSum(data)}
}

// hashFile returns the digest of a file under the given name. advance, which may
// be nil, hears of the bytes read.
func hashFile(ctx context.Context, path, name string, advance func(int64)) (infer.FileDigest, error) {
	f, _, err := infile.Open(path)
	if err != nil {
		return infer.FileDigest{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := copyChunks(ctx, h, f, advance)
	if ctx.Err() != nil {
		return infer.FileDigest{}, ctx.Err() // the file is not to blame
	}
	if err != nil {
		return infer.FileDigest{}, fault.Reading(path, err)
	}
	return infer.FileDigest{Name: name, Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
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

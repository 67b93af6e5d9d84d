package quantize

import (
	"context"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/progress"
)

// JobDigest returns the hex SHA-256 of what the result of [Run] depends on: options, calibration text,
// and the checkpoint, whose weights it reads. Errors are those of Run before it computes anything. It writes nothing.
func JobDigest(ctx context.Context, opts Options) (string, error) {
	opts.Progress = progress.Silent
	if err := opts.check(); err != nil {
		return "", err
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	src, err := artifact.OpenSource(ctx, opts.Model)
	if err != nil {
		return "", err
	}
	defer src.Close()
	r := &setup{opts: opts, src: src}
	if err := r.prepare(); err != nil {
		return "", err
	}
	id, err := r.identity(ctx, pool)
	if err != nil {
		return "", err
	}
	source, err := artifact.DigestCheckpoint(ctx, pool, src.Dir, nil)
	return infile.SHA256(append(id, source...)), err
}

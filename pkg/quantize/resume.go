package quantize

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"

	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// savedState is the verified part of an interrupted run.
type savedState struct {
	records  []record  // of the items that are intact on disk
	fileHash hash.Hash // of the bytes of model.safetensors up to there; nil without records
}

// loadState verifies what an interrupted run wrote. It returns the leading items whose records
// are intact and whose bytes match them. An error of kind fault.Input means that the source
// tensor of such an item has changed.
func (j *job) loadState(ctx context.Context, pool *compute.Pool, dir *stage.Dir, lines []json.RawMessage, p progress.Reporter) (savedState, error) {
	records := j.readRecords(lines)
	if len(records) == 0 {
		return savedState{}, nil
	}
	s := savedState{}
	path := dir.Path(artifact.WeightsFile)
	f, err := os.Open(safetensors.StagedPath(path))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(path) // the run had closed the file
	}
	if err != nil {
		return savedState{}, nil // no file: start again
	}
	defer f.Close()
	var bytes int64
	for i := range records {
		bytes += j.items[i].sourceBytes()
	}
	p.Stage(progress.Stage{Name: StageCheck, Work: bytes})
	defer p.Done()
	if err := j.hashSaved(ctx, f, &s, records); err != nil {
		return savedState{}, err
	}
	return s, j.checkSources(ctx, pool, s.records, p)
}

// hashSaved sets the fields of s from the file and the records.
func (j *job) hashSaved(ctx context.Context, f *os.File, s *savedState, records []record) error {
	file := sha256.New()
	r := bufio.NewReaderSize(f, 1<<20)
	if _, err := io.CopyN(file, r, j.header); err != nil {
		return nil // the header is incomplete
	}
	for _, rec := range records {
		if err := ctx.Err(); err != nil {
			return err
		}
		// The hash before this item is needed if the item is damaged.
		before, err := cloneHash(file)
		if err != nil {
			return err
		}
		for _, d := range rec.Tensors {
			size, err := d.Size()
			if err != nil {
				return err
			}
			one := sha256.New()
			_, err = io.CopyN(io.MultiWriter(file, one), r, size)
			if err != nil || hex.EncodeToString(one.Sum(nil)) != d.SHA256 {
				s.fileHash = before
				return nil
			}
		}
		s.records = append(s.records, rec)
	}
	s.fileHash = file
	return nil
}

// cloneHash returns a copy of a running hash.
func cloneHash(h hash.Hash) (hash.Hash, error) {
	c, ok := h.(hash.Cloner)
	if !ok {
		return nil, errors.New("SHA-256 cannot be cloned")
	}
	return c.Clone()
}

// checkSources compares the source tensors of the saved items with their records.
func (j *job) checkSources(ctx context.Context, pool *compute.Pool, records []record, p progress.Reporter) error {
	errs := make([]error, len(records))
	pool.Run(len(records), func(_, i int) {
		it := &j.items[i]
		for k, t := range append([]*safetensors.Tensor{it.Tensor}, it.Twins...) {
			got, err := artifact.DigestTensor(ctx, t)
			t.Release()
			if err == nil && (got.SHA256 != records[i].Source[k].SHA256 || got.Name != records[i].Source[k].Name) {
				err = fault.Inputf(t.Path(), "tensor %q has changed since the interrupted run", t.Name).
					WithHint("--restart discards the state of the interrupted run")
			}
			if err != nil {
				errs[i] = err
				return
			}
		}
		p.Advance(it.sourceBytes())
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

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

// earlier is what a run can take over.
type earlier struct {
	records  []record  // of the items that are whole on disk
	fileHash hash.Hash // of model.safetensors up to there; nil where there is nothing
}

// takeOver hashes what an earlier run wrote and returns the items, from the
// first, that are as the journal says. A source tensor that is no longer the one
// that such an item was made from is an error of kind fault.Input.
func (j *job) loadState(ctx context.Context, pool *compute.Pool, dir *stage.Dir, lines []json.RawMessage, p progress.Reporter) (earlier, error) {
	records := j.readRecords(lines)
	if len(records) == 0 {
		return earlier{}, nil
	}
	e := earlier{}
	path := dir.Path(artifact.WeightsFile)
	f, err := os.Open(path + ".partial")
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(path) // the run got as far as closing the file
	}
	if err != nil {
		return earlier{}, nil // the file is gone: start again
	}
	defer f.Close()
	var bytes int64
	for i := range records {
		bytes += j.items[i].sourceBytes()
	}
	p.Stage("check earlier work", bytes, "B")
	if err := j.hashEarlier(ctx, f, &e, records); err != nil {
		return earlier{}, err
	}
	return e, j.checkSources(ctx, pool, e.records, p)
}

// hashEarlier sets e.records and e.fileHash from the file.
func (j *job) hashEarlier(ctx context.Context, f *os.File, e *earlier, records []record) error {
	file := sha256.New()
	r := bufio.NewReaderSize(f, 1<<20)
	if _, err := io.CopyN(file, r, j.header); err != nil {
		return nil // too short even for the header: nothing to take over
	}
	for _, rec := range records {
		if err := ctx.Err(); err != nil {
			return err
		}
		// The state of the hash before this item, for when the item is not whole.
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
				e.fileHash = before
				return nil
			}
		}
		e.records = append(e.records, rec)
	}
	e.fileHash = file
	return nil
}

func cloneHash(h hash.Hash) (hash.Hash, error) {
	c, ok := h.(hash.Cloner)
	if !ok {
		return nil, errors.New("SHA-256 cannot be cloned")
	}
	return c.Clone()
}

// checkSources hashes the source tensors of finished items again.
func (j *job) checkSources(ctx context.Context, pool *compute.Pool, records []record, p progress.Reporter) error {
	errs := make([]error, len(records))
	pool.Run(len(records), func(_, i int) {
		it := &j.items[i]
		for k, t := range append([]*safetensors.Tensor{it.Tensor}, it.Twins...) {
			got, err := artifact.DigestTensor(ctx, t)
			t.Release()
			if err == nil && (got.SHA256 != records[i].Source[k].SHA256 || got.Name != records[i].Source[k].Name) {
				err = fault.Inputf(t.Path(), "tensor %q changed since the interrupted run read it", t.Name).
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

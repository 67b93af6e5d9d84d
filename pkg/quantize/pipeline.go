package quantize

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// maxInFlight is the number of tensors that may be computed, hashed or written at the same
// time. It limits memory: each holds its mapped pages and its result. Hashing a tensor uses
// one core, so several are needed to use many cores.
const maxInFlight = 4

// syncEvery is the number of bytes between two syncs, so that the last one is short.
const syncEvery = 128 << 20

// pipeline computes, hashes and writes the items of a job. The computation uses all threads
// of the pool for one tensor after another; hashing and writing run concurrently with it.
type pipeline struct {
	job      *job
	pool     *compute.Pool
	progress progress.Reporter
	journal  *stage.Journal
	state    string // path of the saved state, for messages
	out      *safetensors.Writer
	fileHash hash.Hash // of the bytes of model.safetensors written so far
	records  []record  // of finished items
	resumed  int       // number of them from an interrupted run
	unsynced int64
	hashers  sync.WaitGroup
	text     *calibrator        // nil unless the text runs through the model
	stats    *statistics        // nil without statistics
	exchange *exchange          // nil unless shards compensate a matrix together
	outputs  *sensitivity.Stats // of the gradients at outputs; nil without
}

// pending is an item that is being computed, hashed or written.
type pending struct {
	index  int
	data   [][]byte                // of item.outs
	outs   []artifact.TensorDigest // filled by outsDone
	source []artifact.TensorDigest // filled by sourceDone
	sqErr  float64
	sqNorm float64
	outErr float64 // squared output error relative to that without compensation; 0 if not compensated
	note   string  // why the module was not compensated

	sourceDone, outsDone *future
}

// openWriter creates model.safetensors, or opens it to continue after the saved items.
func (pl *pipeline) openWriter(path string, saved savedState) (err error) {
	done := 0
	for i := range saved.records {
		done += len(pl.job.items[i].outs)
	}
	if done > 0 {
		pl.out, err = safetensors.Resume(path, pl.job.infos, artifact.Metadata(), done)
		if err == nil {
			pl.records, pl.fileHash = saved.records, saved.fileHash
			return nil
		}
		// The header is damaged: start again.
		if fault.KindOf(err) != fault.Input {
			return err
		}
	}
	if pl.out, err = safetensors.Create(path, pl.job.infos, artifact.Metadata()); err != nil {
		return err
	}
	// The digest of the file includes the header, which Create has written.
	if err := pl.out.Sync(); err != nil {
		return err
	}
	f, err := os.Open(safetensors.StagedPath(path))
	if err != nil {
		return fault.Writing(path, err)
	}
	defer f.Close()
	pl.fileHash = sha256.New()
	_, err = io.CopyN(pl.fileHash, f, pl.job.header)
	return fault.Writing(path, err)
}

// run processes the items that are not finished. Its goroutines have ended when it returns.
func (pl *pipeline) run(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer pl.hashers.Wait()
	defer cancel()
	queue := make(chan *pending, maxInFlight)
	slots := make(chan struct{}, maxInFlight)
	writer := start(func() error {
		defer cancel() // stop the computation
		for p := range queue {
			if err := pl.write(p); err != nil {
				return err
			}
			<-slots
		}
		return nil
	})
	err := pl.feed(ctx, queue, slots)
	if err != nil {
		cancel()
	}
	werr := writer.wait()
	switch {
	case parent.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
		return parent.Err()
	case err != nil && !errors.Is(err, context.Canceled):
		return err
	case werr != nil:
		return werr
	}
	return err
}

// feed computes the items in order, sends them to the queue, and closes it.
func (pl *pipeline) feed(ctx context.Context, queue chan<- *pending, slots chan<- struct{}) error {
	defer close(queue)
	for i := len(pl.records); i < len(pl.job.items); i++ {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		it := &pl.job.items[i]
		p := &pending{index: i}
		p.sourceDone = pl.hash(func() error { return p.hashSource(ctx, it) })
		if err := pl.compute(ctx, it, p); err != nil {
			return err
		}
		if pl.text != nil {
			if err := pl.text.install(pl.job, it, p.data); err != nil {
				return err
			}
		}
		p.outsDone = pl.hash(func() error {
			for k, info := range it.outs {
				p.outs = append(p.outs, artifact.NewTensorDigest(info, p.data[k]))
			}
			return nil
		})
		queue <- p // does not block: the queue has capacity for every slot
	}
	return nil
}

// installSaved installs the items of the interrupted run in the calibrator, and runs the text through
// each layer before the next is installed. path is the final path of the file, without the suffix of
// an unfinished one.
func (pl *pipeline) installSaved(path string) (err error) {
	defer compute.Recover(&err)
	f, err := os.Open(safetensors.StagedPath(path))
	if err != nil {
		return fault.Reading(path, err)
	}
	defer f.Close()
	at := pl.job.header
	for i := range pl.resumed {
		it := &pl.job.items[i]
		if it.Spec.Layer > 0 {
			if err := pl.text.enter(it.Spec.Layer); err != nil {
				return err
			}
		}
		var data [][]byte
		for _, d := range pl.records[i].Tensors {
			size, err := d.Size()
			if err != nil {
				return err
			}
			b := make([]byte, size)
			if _, err := f.ReadAt(b, at); err != nil {
				return fault.Reading(path, err)
			}
			at += size
			data = append(data, b)
		}
		if err := pl.text.install(pl.job, it, data); err != nil {
			return err
		}
		it.Tensor.Release()
	}
	return nil
}

// hash runs f in a goroutine that run waits for.
func (pl *pipeline) hash(f func() error) *future {
	pl.hashers.Add(1)
	return start(func() error {
		defer pl.hashers.Done()
		return f()
	})
}

// hashSource hashes the item's tensor and its copies under other names, which must hold the
// same bytes.
func (p *pending) hashSource(ctx context.Context, it *item) error {
	for _, t := range append([]*safetensors.Tensor{it.Tensor}, it.Twins...) {
		d, err := artifact.DigestTensor(ctx, t)
		if err != nil {
			return err
		}
		p.source = append(p.source, d)
		if first := p.source[0]; d.SHA256 != first.SHA256 || d.DType != first.DType {
			return fault.Inputf(t.Path(), "tensors %q and %q differ, but %s ties them (tie_word_embeddings)", first.Name, d.Name, artifact.ConfigFile)
		}
		if t != it.Tensor {
			t.Release()
		}
	}
	return nil
}

// write appends one item to the file and to the journal.
func (pl *pipeline) write(p *pending) error {
	it := &pl.job.items[p.index]
	if err := p.sourceDone.wait(); err != nil {
		return err
	}
	if err := p.outsDone.wait(); err != nil {
		return err
	}
	it.Tensor.Release()
	for k, info := range it.outs {
		want, err := p.outs[k].Size()
		if err != nil || want != int64(len(p.data[k])) {
			return fmt.Errorf("tensor %q: %d bytes computed, %d planned", info.Name, len(p.data[k]), want)
		}
		if err := pl.out.Write(info.Name, p.data[k]); err != nil {
			return err
		}
		pl.fileHash.Write(p.data[k])
		pl.unsynced += want
	}
	if pl.unsynced >= syncEvery {
		if err := pl.out.Sync(); err != nil {
			return err
		}
		pl.unsynced = 0
	}
	rec := record{Item: pl.job.first + p.index, Tensors: p.outs, Source: p.source, SquaredError: p.sqErr, SquaredNorm: p.sqNorm, OutputError: p.outErr, Warning: p.note}
	var err error
	if rec.Digest, err = pl.job.key.digest(rec); err != nil {
		return err
	}
	if err := pl.journal.Append(rec); err != nil {
		return err
	}
	pl.records = append(pl.records, rec)
	pl.progress.Advance(pl.job.work(it))
	pl.progress.Status(pl.job.count(len(pl.records)))
	pl.savedCount()
	return nil
}

// savedCount reports what is saved.
func (pl *pipeline) savedCount() {
	pl.progress.Saved(pl.job.count(len(pl.records)) + " in " + pl.state)
}

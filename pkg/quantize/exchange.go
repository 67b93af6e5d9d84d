package quantize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"afmq/internal/infile"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/gptq"
	"afmq/pkg/grid"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/shard"
)

// exchange divides the compensation of a matrix among the shards of a job, by rows. Every shard runs
// the text through the model; each compensates its rows of a matrix, writes them to a directory that
// all share, and waits for the rows of the others, which all need before the text can move on.
type exchange struct {
	dir      string // of the parts
	key      string // of the job
	shard    shard.Shard
	pool     *compute.Pool
	progress progress.Reporter
}

// partsName is the directory of the parts in that of the job.
const partsName = "parts"

// partRows is the least number of rows of a part of a matrix that has as many: with fewer, they would
// be refined in other chunks, and the result would not be that of one run. See gptq.ChunkRows.
const partRows = 1024

// bounds returns where the parts of a matrix [rows, cols] begin, and at last rows. There are as many
// parts as shards, or fewer for a matrix of few rows; one if its rows are refined together.
func bounds(g grid.Grid, rows, shards int, joint bool) []int {
	if joint {
		return []int{0, rows}
	}
	group := 8 // rows of integers share words with zero points
	if p, ok := g.(grid.Palette); ok {
		group = p.GroupRows
	}
	per := gptq.ChunkRows(rows, group)
	chunks := (rows + per - 1) / per
	n := min(shards, chunks)
	if rows >= partRows {
		n = min(n, rows/(partRows+per)) // a part is a whole number of chunks
	}
	n = max(n, 1)
	out := []int{0}
	for i := 1; i < n; i++ {
		out = append(out, chunks*i/n*per)
	}
	return append(out, rows)
}

// compensate is grid.Grid.Compensate of a matrix, of which this shard computes its part.
func (x *exchange) compensate(ctx context.Context, it *item, g grid.Grid, src grid.Source, f *gptq.Factor, out *gptq.Output) (grid.Data, gptq.Report, error) {
	rows, cols := it.Spec.Shape[0], it.Spec.Shape[1]
	at := bounds(g, rows, x.shard.Count, out.Full())
	parts := len(at) - 1
	for i := range parts {
		if x.owner(it, parts, i) != x.shard.Index {
			continue
		}
		if err := x.own(it, g, src, f, out, at, i); err != nil {
			return nil, gptq.Report{}, err
		}
	}
	data := make(grid.Data, len(g.Tensors(rows, cols)))
	var sum gptq.Report
	for i := range parts {
		part, r, err := x.wait(ctx, it, g, at, i)
		if err != nil {
			return nil, gptq.Report{}, err
		}
		for k, b := range part {
			data[k] = append(data[k], b...)
		}
		sum.Add(r)
	}
	return data, sum, nil
}

// owner returns the shard that computes a part: matrices that are not divided take turns.
func (x *exchange) owner(it *item, parts, i int) int {
	if parts > 1 {
		return i
	}
	return max(0, slices.Index(model.Projections(), it.Spec.Kind)) % x.shard.Count
}

// own computes a part of this shard and writes it, unless an earlier run did.
func (x *exchange) own(it *item, g grid.Grid, src grid.Source, f *gptq.Factor, out *gptq.Output, at []int, i int) error {
	if _, _, err := x.read(it, g, at, i); err == nil {
		return nil
	}
	cols := it.Spec.Shape[1]
	first, end := at[i], at[i+1]
	data, r, err := g.Compensate(x.pool, src.Part(first*cols, end*cols), end-first, cols, f, out.Part(first, end))
	if err != nil {
		return err
	}
	var infos []safetensors.Info
	for k, b := range data {
		infos = append(infos, safetensors.Info{Name: strconv.Itoa(k), DType: safetensors.U8, Shape: []int{len(b)}})
	}
	report, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := x.path(it, i)
	if err := os.MkdirAll(x.dir, 0o777); err != nil {
		return fault.Writing(path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // a damaged one
		return fault.Writing(path, err)
	}
	w, err := safetensors.Create(path, infos, map[string]string{"job": x.key, "tensor": it.Spec.Name, "rows": fmt.Sprintf("%d-%d", first, end), "report": string(report), "sha256": partDigest(data)})
	if err != nil {
		return err
	}
	for _, b := range data {
		if err := w.Append(b); err != nil {
			w.Abort()
			return err
		}
	}
	return w.Close()
}

func partDigest(data grid.Data) string {
	sums := ""
	for _, b := range data {
		sums += infile.SHA256(b)
	}
	return infile.SHA256([]byte(sums))
}

func (x *exchange) path(it *item, i int) string {
	return filepath.Join(x.dir, fmt.Sprintf("%s.%d-of-%d.safetensors", it.Spec.Name, i, x.shard.Count))
}

// wait returns a part of another shard, or this one's own, once it is there.
func (x *exchange) wait(ctx context.Context, it *item, g grid.Grid, at []int, i int) (grid.Data, gptq.Report, error) {
	began := time.Now()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		data, r, err := x.read(it, g, at, i)
		if !errors.Is(err, fs.ErrNotExist) {
			return data, r, err
		}
		if waited := time.Since(began); waited > 10*time.Second {
			x.progress.Status(fmt.Sprintf("waiting for shard %d/%d: %s; if it is complete, remove its directory and run it again", x.owner(it, len(at)-1, i), x.shard.Count, it.Spec.Name))
		}
		select {
		case <-ctx.Done():
			return nil, gptq.Report{}, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// read reads a part. The error is fs.ErrNotExist if it is not there.
func (x *exchange) read(it *item, g grid.Grid, at []int, i int) (data grid.Data, r gptq.Report, err error) {
	path, owner := x.path(it, i), x.owner(it, len(at)-1, i)
	if _, err := os.Stat(path); err != nil {
		return nil, r, err
	}
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, r, x.damaged(path, owner, err.Error())
	}
	defer f.Close()
	first, end, cols := at[i], at[i+1], it.Spec.Shape[1]
	m := f.Metadata()
	if m["job"] != x.key || m["tensor"] != it.Spec.Name || m["rows"] != fmt.Sprintf("%d-%d", first, end) {
		return nil, r, x.damaged(path, owner, fmt.Sprintf("is not rows %d to %d of %s in this job", first, end, it.Spec.Name))
	}
	err = safetensors.Guard(path, func() error {
		for k, info := range g.Tensors(end-first, cols) {
			t, ok := f.Tensor(strconv.Itoa(k))
			want, err := info.Bytes()
			if err != nil || !ok || int64(len(t.Bytes())) != want {
				return x.damaged(path, owner, fmt.Sprintf("has no tensor %d of %d bytes", k, want))
			}
			data = append(data, append([]byte(nil), t.Bytes()...))
		}
		return nil
	})
	if err != nil {
		return nil, r, err
	}
	if partDigest(data) != m["sha256"] || json.Unmarshal([]byte(m["report"]), &r) != nil {
		return nil, r, x.damaged(path, owner, "does not match the digest in its header")
	}
	return data, r, nil
}

// damaged is the error of a part that cannot be used. It is of kind fault.Output, after which this
// shard's state is kept: its input is not at fault.
func (x *exchange) damaged(path string, owner int, what string) error {
	of := filepath.Join(filepath.Dir(x.dir), shard.Shard{Index: owner, Count: x.shard.Count}.Name())
	return (&fault.Error{Kind: fault.Output, File: path, Msg: what}).WithHint("remove it, and %s if it is there, and run that shard again", of)
}

package quantize

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"afmq/internal/infile"
	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
	"afmq/pkg/shard"
)

// ShardResult describes what [RunShard] wrote.
type ShardResult struct {
	Path           string   `json:"path"`    // directory of the shard, in that of the job
	Bytes          int64    `json:"bytes"`   // of its weights
	Modules        int      `json:"modules"` // matrices that it quantized or copied
	ResumedModules int      `json:"resumed_modules"`
	Already        bool     `json:"already"` // it was complete before
	Seconds        float64  `json:"seconds"`
	PeakRSSBytes   int64    `json:"peak_rss_bytes"`
	Warnings       []string `json:"-"` // one line each, for people
}

// shardFile describes a finished shard, in its directory.
const shardFile = "shard.json"

// shardSchema is the version of shardFile.
const shardSchema = "afmq.shard/v1"

// shardContent is the content of shardFile.
type shardContent struct {
	Schema  string          `json:"schema"`
	Job     json.RawMessage `json:"job"`
	Records []record        `json:"records"`
	Digest  string          `json:"digest"` // SHA-256 of all this, with an empty digest
}

func (c shardContent) digest() (string, error) {
	c.Digest = ""
	return infile.DigestJSON(c)
}

// shardRequest is what a merge needs of the options of the shards.
type shardRequest struct {
	Model        string                   `json:"model"` // absolute path
	Stats        string                   `json:"stats,omitempty"`
	Plan         *sensitivity.Plan        `json:"plan,omitempty"`
	Request      *sensitivity.PlanOptions `json:"request,omitempty"`
	Bits         int                      `json:"bits,omitempty"`
	Overrides    []sensitivity.Override   `json:"overrides,omitempty"`
	Form         artifact.Form            `json:"form,omitempty"`
	ExportTarget string                   `json:"export_target,omitempty"`
	GroupRows    int                      `json:"group_rows,omitempty"`
	NoRowScale   bool                     `json:"no_row_scale,omitempty"`
	Compensate   string                   `json:"compensate,omitempty"`

	Calibration sensitivity.CalibrationOptions `json:"calibration"` // files by absolute paths
	Compute     string                         `json:"compute"`
}

// newShardRequest returns the request of options as the caller gave them.
func newShardRequest(o *Options) (*shardRequest, error) {
	r := &shardRequest{
		Plan: o.Plan, Request: o.Request, Bits: o.Bits, Overrides: o.Overrides, Form: o.Form, ExportTarget: o.ExportTarget,
		GroupRows: o.GroupRows, NoRowScale: o.NoRowScale, Compensate: o.Compensate, Compute: o.Compute.String(),
	}
	r.Calibration = o.Calibration
	r.Calibration.Files = nil
	for _, file := range o.Calibration.Files {
		if file != sensitivity.BuiltinText {
			var err error
			if file, err = filepath.Abs(file); err != nil {
				return nil, err
			}
		}
		r.Calibration.Files = append(r.Calibration.Files, file)
	}
	for _, p := range []struct{ to, from *string }{{&r.Model, &o.Model}, {&r.Stats, &o.Stats}} {
		if *p.from == "" {
			continue
		}
		var err error
		if *p.to, err = filepath.Abs(*p.from); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// options returns the options of the request.
func (r *shardRequest) options() (Options, error) {
	arithmetic, err := compute.Parse(r.Compute)
	return Options{
		Model: r.Model, Stats: r.Stats, Plan: r.Plan, Request: r.Request, Bits: r.Bits, Overrides: r.Overrides, Form: r.Form, ExportTarget: r.ExportTarget,
		GroupRows: r.GroupRows, NoRowScale: r.NoRowScale, Compensate: r.Compensate, Compute: arithmetic, Calibration: r.Calibration,
	}, err
}

// RunShard quantizes a shard's share of the model into its place in opts.Out, the directory of the
// job, which all shards share; [Merge] makes the artifact of them. The options of all shards must be
// the same.
//
// Without calibration text, or with statistics of one (Options.Stats), modules do not depend on one
// another, and a shard has a share of them. With calibration text, every module takes the outputs of
// the quantized modules before it: all shards run the text through the model, each compensates some
// rows of every module, and they wait for one another. The weights are those of one run either way.
// The widths must then be known: a Request needs statistics.
//
// A shard that was interrupted continues, one that is complete is left as it is. Errors are those of
// [Run]; a directory of another job is fault.Input.
func RunShard(ctx context.Context, opts Options, sh shard.Shard) (*ShardResult, error) {
	began := time.Now()
	if err := checkShard(&opts, sh); err != nil {
		return nil, err
	}
	request, err := newShardRequest(&opts)
	if err != nil {
		return nil, err
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	r, err := openSetup(ctx, pool, opts)
	if err != nil {
		return nil, err
	}
	defer r.src.Close()
	whole := *r.job
	together := opts.walks()
	if !together {
		if err := r.job.share(sh); err != nil {
			return nil, err
		}
	}
	set, err := shard.Join(opts.Out, "quantize", sh, r.id, request, shardNames())
	if err != nil {
		return nil, err
	}
	res := &ShardResult{Path: set.Path(sh.Index), Bytes: r.job.total, Modules: r.job.matrices(len(r.job.items)), Warnings: r.warn}
	if set.Finished(sh.Index) {
		res.Already, res.ResumedModules = true, res.Modules
		_, err := whole.readShard(set, sh.Index)
		return res, err
	}
	finish := (*job).finishShard
	if together {
		r.exchange = &exchange{dir: filepath.Join(opts.Out, partsName), key: infile.SHA256(r.id), shard: sh}
		if sh.Index > 0 {
			finish = (*job).finishFollower
		}
	}
	dir, err := r.open(res.Path)
	if err != nil {
		return nil, err
	}
	if err := shard.SetPieces(dir.StatePath(""), len(r.job.items)); err != nil {
		return nil, dir.End(err)
	}
	filled, err := r.fill(ctx, pool, dir, finish)
	if err != nil {
		return nil, err
	}
	res.ResumedModules = r.job.matrices(filled.ResumedModules)
	res.Seconds, res.PeakRSSBytes = time.Since(began).Seconds(), rss.Peak()
	return res, nil
}

// checkShard refuses options that shards cannot have.
func checkShard(opts *Options, sh shard.Shard) error {
	if opts.Request != nil && opts.Stats == "" {
		return fault.Usagef("shards need to know the bits of every module before they begin").
			WithHint("give --stats of afmq stats, or --plan with scores of afmq sensitivity --shard")
	}
	if !sh.Divided() {
		return fault.Usagef("no shard")
	}
	return nil
}

// openSetup opens the checkpoint and plans a run whose widths are known.
func openSetup(ctx context.Context, pool *compute.Pool, opts Options) (*setup, error) {
	src, err := artifact.OpenSource(ctx, opts.Model)
	if err != nil {
		return nil, err
	}
	r := &setup{opts: opts, src: src, sharded: true}
	if err = r.prepare(); err == nil {
		err = r.identify(ctx, pool)
	}
	if err != nil {
		src.Close()
		return nil, err
	}
	return r, nil
}

func shardNames() (out []shard.Name) {
	for _, n := range jobNames {
		out = append(out, shard.Name(n))
	}
	return append(out, shard.Name{Key: "statistics", Words: "--stats"})
}

// share reduces the job to a shard's items: consecutive ones with about an equal part of the work.
// Modules with the same input stay together, for their factor.
func (j *job) share(s shard.Shard) error {
	firsts := j.shares(s.Count)
	if firsts == nil {
		return fault.Usagef("%d shards are more than the model can be divided into", s.Count).
			WithHint("give fewer; a shard has at least the modules of one input")
	}
	j.first = firsts[s.Index]
	j.items = j.items[j.first:firsts[s.Index+1]]
	j.infos = nil
	for _, it := range j.items {
		j.infos = append(j.infos, it.outs...)
	}
	var err error
	j.header, j.total, err = safetensors.FileSize(j.infos, artifact.Metadata())
	return err
}

// shares returns the first item of each of n shards, and after them the number of items; nil if a
// shard would have none.
func (j *job) shares(n int) []int {
	total, _ := j.totalWork(0)
	firsts, before := []int{0}, int64(0)
	for at := 0; at < len(j.items); {
		end, work := at+1, j.work(&j.items[at])
		for end < len(j.items) && sameInput(&j.items[at], &j.items[end]) {
			work += j.work(&j.items[end])
			end++
		}
		// The shard in which the middle of the work lies.
		if owner := int((float64(before) + float64(work)/2) / float64(total) * float64(n)); owner >= len(firsts) && len(firsts) < n {
			if owner > len(firsts) {
				return nil
			}
			firsts = append(firsts, at)
		}
		before += work
		at = end
	}
	if len(firsts) < n {
		return nil
	}
	return append(firsts, len(j.items))
}

// sameInput reports whether two tensors stay in one shard.
func sameInput(a, b *item) bool {
	return len(a.Spec.Shape) == 2 && len(b.Spec.Shape) == 2 && a.Spec.Layer >= 0 && inputOf(a.Spec) == inputOf(b.Spec)
}

// finishShard writes the description of a finished shard.
func (j *job) finishShard(dir *stage.Dir, records []record, _ artifact.FileDigest) (*Result, error) {
	c := shardContent{Schema: shardSchema, Job: json.RawMessage(j.identity), Records: records}
	var err error
	if c.Digest, err = c.digest(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return &Result{}, dir.WriteFile(shardFile, append(data, '\n'))
}

// finishFollower is finishShard of a shard whose weights another one has, too.
func (j *job) finishFollower(dir *stage.Dir, records []record, weights artifact.FileDigest) (*Result, error) {
	if err := os.Remove(dir.Path(artifact.WeightsFile)); err != nil {
		return nil, fault.Writing(dir.Path(artifact.WeightsFile), err)
	}
	return j.finishShard(dir, records, weights)
}

// readShard reads the records of a finished shard of the job.
func (j *job) readShard(set *shard.Set, index int) ([]record, error) {
	path := filepath.Join(set.Path(index), shardFile)
	data, err := infile.Read(path, 1<<30)
	if err != nil {
		return nil, err
	}
	var c shardContent
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fault.Inputf(path, "is not the description of a shard: %v", err)
	}
	if c.Schema != shardSchema {
		return nil, fault.Inputf(path, "has schema %q; this version reads %q", c.Schema, shardSchema)
	}
	if got, err := c.digest(); err != nil || got != c.Digest {
		return nil, fault.Inputf(path, "does not match the digest that it has of its content: it was changed or is damaged").
			WithHint("remove %s and run the shard again", set.Path(index))
	}
	if string(c.Job) != string(j.identity) {
		return nil, fault.Inputf(set.Path(index), "is a shard of another job: %s", stage.Difference(j.identity, c.Job, jobNames))
	}
	part := *j
	if !j.opts.walks() {
		if err := part.share(shard.Shard{Index: index, Count: set.Shards}); err != nil {
			return nil, err
		}
	}
	lines := make([]json.RawMessage, len(c.Records))
	for i := range c.Records {
		if lines[i], err = json.Marshal(c.Records[i]); err != nil {
			return nil, err
		}
	}
	records := part.readRecords(lines)
	if len(records) != len(part.items) || len(lines) != len(part.items) {
		return nil, fault.Inputf(path, "has the intact records of %d tensors; the shard has %d", len(records), len(part.items)).
			WithHint("remove %s and run the shard again", set.Path(index))
	}
	return records, nil
}

// MergeOptions are the options of [Merge]. Dir and Out are required.
type MergeOptions struct {
	Dir   string // of the job in shards
	Out   string // directory to create; must not exist, or be empty
	Model string // the checkpoint; empty for where the first shard found it
	Stats string // the statistics; empty for where the first shard found them

	Pool        *compute.Pool     // nil for Threads workers of its own
	Threads     int               // where Pool is nil; 0 for all cores
	Progress    progress.Reporter // nil for progress.Silent
	ToolVersion string            // must be that of the shards
}

// StageMerge is the stage of [Merge].
const StageMerge = "merge shards"

// Merge makes the artifact of the shards that [RunShard] wrote. It is the artifact that [Run] would
// make with the same options, byte for byte.
//
// A shard that is missing, damaged, or of another job, another checkpoint or another version of the
// tool is an error of kind fault.Input that names it. Nothing is left behind then.
func Merge(ctx context.Context, m MergeOptions) (*Result, error) {
	began := time.Now()
	set, err := shard.Open(m.Dir)
	if err != nil {
		return nil, err
	}
	if set.Command != "quantize" {
		return nil, fault.Inputf(m.Dir, "holds shards of `afmq %s`, not of `afmq quantize`", set.Command)
	}
	if err := set.Complete(); err != nil {
		return nil, err
	}
	r, err := m.setup(ctx, set)
	if err != nil {
		return nil, err
	}
	defer r.src.Close()
	records, err := r.readShards(set)
	if err != nil {
		return nil, err
	}
	id := bytes.Replace(r.id, []byte(`"job":"quantize/v2"`), []byte(`"job":"merge/v1"`), 1)
	open := stage.Options{NeedBytes: r.job.needBytes(), Names: jobNames}
	dir, err := stage.Open(m.Out, id, open)
	if err == nil && dir.Resumed() { // of a merge that was killed
		dir.Keep()
		open.Restart = true
		dir, err = stage.Open(m.Out, id, open)
	}
	if err != nil {
		return nil, err
	}
	finished := false
	defer func() {
		if !finished {
			dir.Discard() // a panic
		}
	}()
	res, err := r.merge(ctx, set, dir, records)
	finished = true
	if err != nil {
		dir.Discard() // a merge takes seconds, and starts again
		return nil, err
	}
	if err = dir.End(nil); err != nil {
		return nil, err
	}
	res.Plan, res.Warnings = r.made, r.warn
	if res.Plan == nil {
		res.Plan = r.opts.Plan
	}
	if r.text != nil {
		res.CalibrationTokens = r.text.Tokens()
	}
	res.Seconds, res.PeakRSSBytes = time.Since(began).Seconds(), rss.Peak()
	return res, nil
}

// readShards returns the records of all tensors.
func (r *setup) readShards(set *shard.Set) (records []record, err error) {
	for i := range set.Shards {
		part, err := r.job.readShard(set, i)
		if err != nil {
			return nil, err
		}
		if i == 0 || !r.opts.walks() {
			records = append(records, part...)
			continue
		}
		// All shards have computed all tensors.
		for k := range part {
			if !slices.EqualFunc(part[k].Tensors, records[k].Tensors, func(a, b artifact.TensorDigest) bool { return a.SHA256 == b.SHA256 }) {
				return nil, fault.Inputf(set.Path(i), "has other values of tensor %q than shard 0", r.job.items[k].Spec.Name)
			}
		}
	}
	return records, nil
}

// setup plans the run that the shards are of.
func (m *MergeOptions) setup(ctx context.Context, set *shard.Set) (*setup, error) {
	path := filepath.Join(set.Dir, shard.JobFile)
	var request shardRequest
	if err := json.Unmarshal(set.Request, &request); err != nil {
		return nil, fault.Inputf(path, "its request cannot be read: %v", err)
	}
	opts, err := request.options()
	if err != nil {
		return nil, fault.Inputf(path, "%v", err)
	}
	if m.Model != "" {
		opts.Model = m.Model
	}
	if m.Stats != "" {
		opts.Stats = m.Stats
	}
	opts.Out, opts.Progress, opts.ToolVersion = m.Out, progress.Begin(m.Progress, StageMerge), m.ToolVersion
	if err := opts.check(); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(m.Pool, m.Threads)
	defer done()
	r, err := openSetup(ctx, pool, opts)
	if err != nil {
		return nil, err
	}
	if job := shard.Compact(set.Job); string(job) != string(r.id) {
		r.src.Close()
		return nil, fault.Inputf(set.Dir, "the shards are of another job than this checkpoint, these statistics and this version make: %s", stage.Difference(job, r.id, jobNames)).
			WithHint("give the former ones, with --model and --stats if they have moved")
	}
	return r, nil
}

// merge writes the artifact into dir.
func (r *setup) merge(ctx context.Context, set *shard.Set, dir *stage.Dir, records []record) (*Result, error) {
	j, p := r.job, r.opts.Progress
	p.Stage(progress.Stage{Name: StageMerge, Work: j.total})
	defer p.Done()
	path := dir.Path(artifact.WeightsFile)
	w, err := safetensors.Create(path, j.infos, artifact.Metadata())
	if err != nil {
		return nil, err
	}
	at, shards := 0, set.Shards
	if r.opts.walks() {
		shards = 1 // the first has all weights
	}
	for i := range shards {
		n, err := r.copyShard(ctx, set.Path(i), w, records[at:], i, set.Shards)
		if err != nil {
			w.Abort()
			return nil, err
		}
		at += n
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	weights, err := artifact.HashFile(ctx, path, artifact.WeightsFile, nil)
	if err != nil {
		return nil, err
	}
	return j.finish(dir, records, weights)
}

// copyShard appends the tensors of a shard to w, compared with their records, and returns the number
// of its items.
func (r *setup) copyShard(ctx context.Context, dir string, w *safetensors.Writer, records []record, index, count int) (int, error) {
	part := *r.job
	if !r.opts.walks() {
		if err := part.share(shard.Shard{Index: index, Count: count}); err != nil {
			return 0, err
		}
	}
	path := filepath.Join(dir, artifact.WeightsFile)
	f, err := os.Open(path)
	if err != nil {
		return 0, fault.Reading(path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != part.total {
		return 0, fault.Inputf(path, "has another size than %d bytes", part.total).WithHint("remove %s and run the shard again", dir)
	}
	at := part.header
	for _, rec := range records[:len(part.items)] {
		for _, d := range rec.Tensors {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			size, err := d.Size()
			if err != nil {
				return 0, err
			}
			data := make([]byte, size)
			if _, err := f.ReadAt(data, at); err != nil && err != io.EOF {
				return 0, fault.Reading(path, err)
			}
			at += size
			if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != d.SHA256 {
				return 0, fault.Inputf(path, "tensor %q does not match %s", d.Name, shardFile).WithHint("remove %s and run the shard again", dir)
			}
			if err := w.Write(d.Name, data); err != nil {
				return 0, err
			}
			r.opts.Progress.Advance(size)
		}
	}
	return len(part.items), nil
}

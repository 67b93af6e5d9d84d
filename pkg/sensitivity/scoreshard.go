package sensitivity

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"time"

	"afmq/internal/infile"
	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/shard"
)

// ShardResult describes what [ScoreShard] wrote.
type ShardResult struct {
	Path         string   `json:"path"`          // directory of the shard, in that of the job
	Units        int      `json:"units"`         // layers of a part of the text for Fisher, else modules
	ResumedUnits int      `json:"resumed_units"` // taken from an interrupted run
	Already      bool     `json:"already"`       // it was complete before
	Seconds      float64  `json:"seconds"`
	PeakRSSBytes int64    `json:"peak_rss_bytes"`
	Warnings     []string `json:"-"` // one line each, for people
}

// scoresPartFile is the file of a shard of a method other than Fisher, in its directory.
const scoresPartFile = "scores-part.json"

const scoresPartSchema = "afmq.scores-part/v1"

// scoresPart is the content of scoresPartFile.
type scoresPart struct {
	Schema string          `json:"schema"`
	Job    json.RawMessage `json:"job"`
	Scores *Scores         `json:"scores"` // with costs 0
	Units  []UnitRecord    `json:"units"`
	Digest string          `json:"digest"` // SHA-256 of all this, with an empty digest
}

func (p *scoresPart) digest() (string, error) {
	content := *p
	content.Digest = ""
	return infile.DigestJSON(&content)
}

// ScoreShard computes a shard's share of the scores into its place in opts.Out, the directory of the
// job, which all shards share; [MergeScores] makes the scores of them. Shards of [Fisher] have parts of
// the text, those of the other methods modules. Validate must be 0.
//
// A shard that was interrupted continues, one that is complete is left as it is. Errors are those of
// [Score]; a directory of another job is fault.Input.
func ScoreShard(ctx context.Context, opts Options, sh shard.Shard) (*ShardResult, error) {
	began := time.Now()
	if err := checkShard(&opts, sh); err != nil {
		return nil, err
	}
	if opts.Method == Fisher || opts.Method == "" {
		r, err := CollectStats(ctx, StatsOptions{Options: opts, Shard: sh, command: commandScores})
		if err != nil {
			return nil, err
		}
		return &ShardResult{r.Path, r.Layers, r.ResumedLayers, r.Already, r.Seconds, r.PeakRSSBytes, r.Warnings}, nil
	}
	j, done, err := openJob(opts)
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := j.runShard(ctx, sh)
	if err != nil {
		return nil, err
	}
	r.Seconds, r.PeakRSSBytes = time.Since(began).Seconds(), rss.Peak()
	return r, nil
}

// checkShard refuses options that shards cannot have.
func checkShard(opts *Options, sh shard.Shard) error {
	switch {
	case opts.Validate != 0:
		return fault.Usagef("shards have no validation; validate a whole run")
	case opts.Out == "":
		return fault.Usagef("no output directory")
	case !sh.Divided():
		return fault.Usagef("no shard")
	}
	return nil
}

// runShard computes the units of a shard and writes them.
func (j *scoreJob) runShard(ctx context.Context, sh shard.Shard) (*ShardResult, error) {
	modules := 0
	for _, spec := range j.cfg.Tensors() {
		if spec.Role == model.Projection || j.opts.Ends && isEnd(spec) {
			modules++
		}
	}
	if sh.Count > modules {
		return nil, fault.Usagef("%d shards of %d modules: some would have none", sh.Count, modules)
	}
	identity, err := j.identity(ctx)
	if err != nil {
		return nil, err
	}
	set, err := shard.Join(j.opts.Out, "sensitivity", sh, identity, struct{}{}, shardNames())
	if err != nil {
		return nil, err
	}
	path := set.Path(sh.Index)
	if set.Finished(sh.Index) {
		p, err := openScoresPart(set, sh.Index)
		if err != nil {
			return nil, err
		}
		return &ShardResult{Path: path, Units: len(p.Units), ResumedUnits: len(p.Units), Already: true}, nil
	}
	dir, err := stage.Open(path, identity, stage.Options{NeedBytes: 1 << 20, Restart: j.opts.Restart, Names: jobNames})
	if err != nil {
		return nil, err
	}
	finished := false
	defer func() {
		if !finished {
			dir.Keep() // a panic
		}
	}()
	r, err := j.fillShard(ctx, sh, dir, identity)
	finished = true
	if err = dir.End(err); err != nil {
		return nil, err
	}
	r.Path = path
	return r, nil
}

func (j *scoreJob) fillShard(ctx context.Context, sh shard.Shard, dir *stage.Dir, identity []byte) (r *ShardResult, err error) {
	defer compute.Recover(&err)
	journal, err := dir.Journal()
	if err != nil {
		return nil, err
	}
	j.opts.Scratch = dir.StatePath("")
	s, err := j.newScorer(ctx)
	if err != nil {
		return nil, err
	}
	defer s.closeText()
	e := newEstimator(j.opts.Method, s)
	// In turn, since later modules take less time to measure.
	var mine []int
	for u := sh.Index; u < e.units(); u += sh.Count {
		mine = append(mine, u)
	}
	if err := shard.SetPieces(dir.StatePath(""), len(mine)); err != nil {
		return nil, err
	}
	r = &ShardResult{Units: len(mine)}
	if j.text != nil {
		r.Warnings = j.text.Warnings
	}
	part := scoresPart{Schema: scoresPartSchema, Job: identity}
	keep := func(u int, c []Contribution) { part.Units = append(part.Units, UnitRecord{Unit: u, Costs: c}) }
	if _, err := j.runEach(ctx, s, e, &unitLog{journal, identity, dir.State()}, false, mine, &r.ResumedUnits, keep); err != nil {
		return nil, err
	}
	if part.Scores, err = j.scores(s, s.noCosts()); err != nil {
		return nil, err
	}
	if part.Digest, err = part.digest(); err != nil {
		return nil, err
	}
	data, err := encode(part)
	if err != nil {
		return nil, err
	}
	return r, dir.WriteFile(scoresPartFile, data)
}

// openScoresPart reads a finished shard of a method other than Fisher.
func openScoresPart(set *shard.Set, index int) (*scoresPart, error) {
	path := filepath.Join(set.Path(index), scoresPartFile)
	data, err := infile.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	p := &scoresPart{}
	if err := decode(data, p); err != nil {
		return nil, fault.Inputf(path, "is not a part of scores: %v", err)
	}
	if p.Schema != scoresPartSchema || p.Scores == nil {
		return nil, fault.Inputf(path, "has schema %q and scores %v; this version reads %q", p.Schema, p.Scores != nil, scoresPartSchema)
	}
	if err := checkDigest(p.digest, p.Digest); err != nil {
		return nil, fault.Inputf(path, "%v", err).WithHint("remove %s and run the shard again", set.Path(index))
	}
	if !bytes.Equal(shard.Compact(p.Job), shard.Compact(set.Job)) {
		return nil, fault.Inputf(set.Path(index), "is a shard of another job: %s", stage.Difference(shard.Compact(set.Job), shard.Compact(p.Job), jobNames))
	}
	_, err = p.Scores.check(path)
	return p, err
}

// MergeScores returns the scores of a job that [ScoreShard] computed in shards: those that [Score] would
// have given, to the last bit. A shard that is missing, damaged or of another job is an error of kind
// fault.Input that names it.
func MergeScores(dir string) (*Scores, error) {
	set, err := shard.Open(dir)
	if err != nil {
		return nil, err
	}
	if set.Command != "sensitivity" {
		return nil, fault.Inputf(dir, "holds shards of `afmq %s`, not of `afmq sensitivity`", set.Command)
	}
	if err := set.Complete(); err != nil {
		return nil, err
	}
	if _, err := infile.Read(filepath.Join(set.Path(0), StatsFile), maxFile); err == nil {
		parts, err := openParts(set)
		if err != nil {
			return nil, err
		}
		s, err := newStats(dir, parts)
		if err != nil {
			return nil, err
		}
		return s.Scores, nil
	}
	var scores *Scores
	var units []UnitRecord
	for i := range set.Shards {
		p, err := openScoresPart(set, i)
		if err != nil {
			return nil, err
		}
		if scores == nil {
			scores = p.Scores
		}
		if scores.Method != p.Scores.Method || !slices.Equal(scores.Bits, p.Scores.Bits) || !slices.Equal(scores.Forms, p.Scores.Forms) || scores.units() != p.Scores.units() {
			return nil, fault.Inputf(set.Path(i), "has scores of other widths or modules than the shards before it")
		}
		units = append(units, p.Units...)
	}
	slices.SortFunc(units, func(a, b UnitRecord) int { return cmp.Compare(a.Unit, b.Unit) })
	if len(units) != scores.units() {
		return nil, fault.Inputf(dir, "scores %d of %d modules", len(units), scores.units())
	}
	for i, u := range units {
		if u.Unit != i || len(u.Costs) != len(scores.costs(i)) {
			return nil, fault.Inputf(dir, "has %d scores in unit %d, where %d of module %d follow", len(u.Costs), u.Unit, len(scores.costs(i)), i)
		}
		for o, c := range u.Costs {
			if c.Module != i || c.Option != o {
				return nil, fault.Inputf(dir, "scores module %d under option %d, where module %d under option %d follows", c.Module, c.Option, i, o)
			}
			scores.costs(i)[o] = c.Cost
		}
	}
	_, err = scores.check(dir)
	return scores, err
}

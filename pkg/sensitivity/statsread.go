package sensitivity

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"afmq/internal/infile"
	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
	"afmq/pkg/shard"
)

// Stats are the statistics of a text that [CollectStats] wrote, whole or in shards.
type Stats struct {
	// Scores are those of [Fisher].
	Scores *Scores
	// Calibration describes the text.
	Calibration *artifact.CalibrationRecord
	// Source is the digest of the checkpoint, as artifact.DigestCheckpoint returns it.
	Source string
	// Digest identifies the statistics; it does not depend on the shards.
	Digest string

	dir   string
	cfg   *model.Config
	job   json.RawMessage
	parts []*statsPart // in the order of the text
}

// OpenStats opens the statistics in dir. Of a job in shards all must be complete. Errors are
// fault.Input.
func OpenStats(dir string) (*Stats, error) {
	if !shard.Is(dir) {
		p, err := openPart(dir)
		if err != nil {
			return nil, err
		}
		return newStats(dir, []*statsPart{p})
	}
	set, err := shard.Open(dir)
	if err != nil {
		return nil, err
	}
	if set.Command != "stats" {
		return nil, fault.Inputf(dir, "holds shards of `afmq %s`, not of `afmq stats`", set.Command)
	}
	parts, err := openParts(set)
	if err != nil {
		return nil, err
	}
	return newStats(dir, parts)
}

// openParts opens the shards of a job, which must be complete.
func openParts(set *shard.Set) (parts []*statsPart, err error) {
	if err := set.Complete(); err != nil {
		return nil, err
	}
	for i := range set.Shards {
		p, err := openPart(set.Path(i))
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(shard.Compact(p.Job), shard.Compact(set.Job)) {
			return nil, fault.Inputf(set.Path(i), "is a shard of another job: %s", stage.Difference(shard.Compact(set.Job), shard.Compact(p.Job), jobNames))
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// newStats combines parts.
func newStats(dir string, parts []*statsPart) (*Stats, error) {
	slices.SortStableFunc(parts, func(a, b *statsPart) int { return cmp.Compare(a.FirstLeaf, b.FirstLeaf) })
	first := parts[0]
	s := &Stats{Calibration: first.Calibration, dir: dir, job: shard.Compact(first.Job), parts: parts}
	at, tokens := 0, int64(0)
	for _, p := range parts {
		if p.FirstLeaf != at || p.Leaves != first.Leaves || p.Calibration.Digest != first.Calibration.Digest || p.Samples != first.Samples || !reflect.DeepEqual(p.Scores, first.Scores) {
			return nil, fault.Inputf(p.dir, "does not continue the text where %s ends", first.dir)
		}
		at, tokens = p.EndLeaf, tokens+p.Tokens
	}
	if at != first.Leaves || tokens != int64(first.Calibration.Tokens) {
		return nil, fault.Inputf(dir, "has statistics of %d of %d tokens", tokens, first.Calibration.Tokens)
	}
	scores := first.Scores.clone()
	scale := 0.5 / float64(first.Samples) / float64(tokens)
	for i := range scores.units() {
		costs := scores.costs(i)
		for _, sum := range s.sums(scores.unitName(i)) {
			for o, v := range sum {
				costs[o] += v * scale
			}
		}
	}
	s.Scores = scores
	shape, err := scores.check(filepath.Join(dir, StatsFile))
	if err != nil {
		return nil, err
	}
	s.cfg = shape.Config
	var job struct {
		Source string `json:"source"`
	}
	if err := json.Unmarshal(s.job, &job); err != nil || job.Source == "" {
		return nil, fault.Inputf(first.dir, "%s does not name the checkpoint", StatsFile)
	}
	s.Source = job.Source
	data, err := json.Marshal(scores.Modules)
	if err == nil && len(scores.Ends) > 0 {
		var ends []byte
		ends, err = json.Marshal(scores.Ends)
		data = append(data, ends...)
	}
	if err != nil {
		return nil, err
	}
	s.Digest = infile.SHA256(append(bytes.Clone(s.job), data...))
	return s, nil
}

// sums returns the sums of a module over all leaves of the text.
func (s *Stats) sums(module string) (out [][]float64) {
	for _, p := range s.parts {
		out = append(out, p.Sums[module]...)
	}
	return out
}

// Hessian returns the second moment Σ x·xᵀ of the input of a projection, or of the head, [n, n]. The
// file is compared with its digest.
func (s *Stats) Hessian(ctx context.Context, spec model.TensorSpec) ([]float32, error) {
	name, layer, n := headName, headLayer, s.cfg.HiddenSize
	if spec.Role == model.Projection {
		layer, n = spec.Layer, spec.Shape[1]
		if name = s.inputModule(spec); name == "" {
			return nil, fault.Inputf(s.dir, "has no statistics of the input of %s", spec.Module())
		}
	}
	sum, err := s.total(ctx, layer, name+hessianSuffix, n*(n+1)/2)
	if err != nil {
		return nil, err
	}
	return unpackTriangle(sum, n), nil
}

// Output returns the second moment Σ g·gᵀ of the gradients at the outputs of a projection, whole, [m, m],
// or its diagonal, [m]. The file is compared with its digest.
func (s *Stats) Output(ctx context.Context, spec model.TensorSpec) (moment, squares []float32, err error) {
	m := spec.Shape[0]
	if !FullOutput(spec) {
		squares, err = s.total(ctx, spec.Layer, spec.Module()+gradientSuffix, m)
		return nil, squares, err
	}
	sum, err := s.total(ctx, spec.Layer, spec.Module()+outputSuffix, m*(m+1)/2)
	if err != nil {
		return nil, nil, err
	}
	return unpackTriangle(sum, m), nil, nil
}

// total returns a quantity of a layer, of n elements, over the whole text.
func (s *Stats) total(ctx context.Context, layer int, quantity string, n int) ([]float32, error) {
	var tree treeSum
	for _, p := range s.parts {
		nodes, err := p.read(ctx, layerFile(layer), quantity, n)
		if err != nil {
			return nil, err
		}
		for _, node := range nodes {
			tree.push(node)
		}
	}
	return tree.total(), nil
}

// CollectOutputs is [CollectStats] for the moments of gradients and the scores, without inputs, in
// opts.Out, where it continues what was interrupted and takes what is complete. unscored leaves out the
// scores, which are 0 then. The warnings are for people, one line each.
func CollectOutputs(ctx context.Context, opts Options, unscored bool) (s *Stats, warnings []string, err error) {
	if s, err = OpenStats(opts.Out); err == nil {
		if err = s.verify(ctx); err == nil {
			return s, nil, nil
		}
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err := os.RemoveAll(opts.Out); err != nil { // missing, damaged, or a part of what was removed before
		return nil, nil, fault.Writing(opts.Out, err)
	}
	r, err := CollectStats(ctx, StatsOptions{Options: opts, command: commandOutputs, unscored: unscored})
	if err != nil {
		return nil, nil, err
	}
	s, err = OpenStats(opts.Out)
	return s, r.Warnings, err
}

// read returns the sums of one quantity.
func (p *statsPart) read(ctx context.Context, file, quantity string, n int) ([]treeNode, error) {
	f, err := p.open(ctx, file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return p.nodes(f, quantity, n)
}

// inputModule returns the first module in the order of the file that has the input of a projection.
func (s *Stats) inputModule(spec model.TensorSpec) string {
	kind := model.InputGroup(spec.Kind)[0]
	for _, t := range s.cfg.Tensors() {
		if t.Role == model.Projection && t.Layer == spec.Layer && t.Kind == kind {
			return t.Module()
		}
	}
	return ""
}

// StageMerge is the stage of [Stats.Merge].
const StageMerge = "merge statistics"

// Merge writes the statistics of all shards as those of one run, with the same bytes, to the
// directory out.
func (s *Stats) Merge(ctx context.Context, out string, p progress.Reporter) (*StatsResult, error) {
	began := time.Now()
	p = progress.Begin(p, StageMerge)
	work := int64(0)
	for _, part := range s.parts {
		work += part.bytes()
	}
	dir, err := stage.Open(out, s.job, stage.Options{NeedBytes: work/int64(len(s.parts)) + 1<<20, Names: jobNames})
	if err != nil {
		return nil, err
	}
	finished := false
	defer func() {
		if !finished {
			dir.Keep() // a panic
		}
	}()
	r, err := s.merge(ctx, dir, p, work)
	finished = true
	if err = dir.End(err); err != nil {
		return nil, err
	}
	r.Path, r.Seconds, r.PeakRSSBytes = out, time.Since(began).Seconds(), rss.Peak()
	return r, nil
}

func (s *Stats) merge(ctx context.Context, dir *stage.Dir, p progress.Reporter, work int64) (*StatsResult, error) {
	p.Stage(progress.Stage{Name: StageMerge, Work: work})
	defer p.Done()
	first := s.parts[0]
	whole := *first
	whole.FirstLeaf, whole.EndLeaf, whole.Tokens = 0, first.Leaves, int64(s.Calibration.Tokens)
	whole.Sums, whole.Files = map[string][][]float64{}, nil
	for i := range s.Scores.units() {
		name := s.Scores.unitName(i)
		whole.Sums[name] = s.sums(name)
	}
	for _, file := range first.Files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list, bytes, err := s.mergeFile(ctx, file.Name)
		if err != nil {
			return nil, err
		}
		digest, err := writeStatsFile(dir.Path(file.Name), file.Name, list)
		if err != nil {
			return nil, err
		}
		whole.Files = append(whole.Files, digest)
		p.Advance(bytes)
	}
	data, err := whole.encode()
	if err != nil {
		return nil, err
	}
	r := &StatsResult{Bytes: whole.bytes(), Tokens: whole.Tokens, Layers: s.cfg.Layers}
	return r, dir.WriteFile(StatsFile, data)
}

// mergeFile returns the sums of one file over all parts, and the bytes that it read.
func (s *Stats) mergeFile(ctx context.Context, name string) (list []statsTensor, bytes int64, err error) {
	trees := map[string]*treeSum{}
	for _, p := range s.parts {
		f, err := p.open(ctx, name)
		if err != nil {
			return nil, 0, err
		}
		bytes += f.Bytes()
		err = p.push(f, trees)
		f.Close()
		if err != nil {
			return nil, 0, err
		}
	}
	for quantity, tree := range trees {
		for _, node := range tree.nodes {
			list = append(list, statsTensor{quantity, node})
		}
	}
	return list, bytes, nil
}

// push adds all sums in an open file to the trees of their quantities.
func (p *statsPart) push(f *safetensors.File, trees map[string]*treeSum) error {
	var seen []string
	for _, name := range f.Names() {
		at := strings.LastIndexByte(name, '.')
		if at < 0 || slices.Contains(seen, name[:at]) {
			continue
		}
		quantity := name[:at]
		seen = append(seen, quantity)
		t, _ := f.Tensor(name)
		nodes, err := p.nodes(f, quantity, t.NumElements())
		if err != nil {
			return err
		}
		if trees[quantity] == nil {
			trees[quantity] = &treeSum{}
		}
		for _, node := range nodes {
			trees[quantity].push(node)
		}
	}
	return nil
}

// TiesEmbedding reports whether the embedding of the model is also its head.
func (s *Stats) TiesEmbedding() bool { return s.cfg.TieEmbeddings }

// verify compares all files with their digests.
func (s *Stats) verify(ctx context.Context) error {
	for _, p := range s.parts {
		for _, file := range p.Files {
			f, err := p.open(ctx, file.Name)
			if err != nil {
				return err
			}
			f.Close()
		}
	}
	return nil
}

// Draws returns the number of gradients that the moments of outputs are sums of: one for each token and
// draw.
func (s *Stats) Draws() int { return s.Calibration.Tokens * s.parts[0].Samples }

package sensitivity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"afmq/internal/disk"
	"afmq/internal/infile"
	"afmq/internal/rss"
	"afmq/internal/stage"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/shard"
)

// StatsOptions are the options of [CollectStats].
type StatsOptions struct {
	// Options say what is scored. Method must be Fisher or empty, Validate 0, and Out the directory to
	// write; with a shard, that of the job, which all its shards share.
	Options
	Shard shard.Shard // the share of the text to run; the zero value is all of it

	command  string // commandStats if empty
	unscored bool   // of commandOutputs: all scores are 0
}

// What a job collects, by the name in its identity.
const (
	commandStats   = "stats"
	commandScores  = "sensitivity" // scores alone
	commandOutputs = "outputs"     // scores and the moments of gradients
)

// StatsResult describes what [CollectStats] wrote.
type StatsResult struct {
	Path          string   `json:"path"`  // of the statistics: Out, or the directory of the shard in it
	Bytes         int64    `json:"bytes"` // of its files
	Tokens        int64    `json:"tokens"`
	Layers        int      `json:"layers"`
	ResumedLayers int      `json:"resumed_layers"` // that an interrupted run had finished
	Already       bool     `json:"already"`        // the shard was complete before
	Seconds       float64  `json:"seconds"`
	PeakRSSBytes  int64    `json:"peak_rss_bytes"`
	Warnings      []string `json:"-"` // one line each, for people
}

// CollectStats runs the text once through the 16-bit model, forward and backward, and writes what
// sensitivity scores and error compensation need of it:
//
//   - the second moment Σ x·xᵀ of the input of every module and of the head;
//   - for every module, output and option, Σ (g·ΔW·x)², from which [Fisher] follows;
//   - the second moments Σ g·gᵀ of the gradients g at the outputs of every module; of gate and up with
//     more than MaxOutputRows outputs, their squares Σ g² alone.
//
// With a shard, it runs a part of the text. The sums are added in the order of a tree over the text,
// so that any division gives the same bytes once it is merged. A run that was interrupted continues;
// a shard that is complete is left as it is.
//
// Errors are those of [Score].
func CollectStats(ctx context.Context, opts StatsOptions) (*StatsResult, error) {
	began := time.Now()
	if err := opts.check(); err != nil {
		return nil, err
	}
	pool, done := compute.Workers(opts.Pool, opts.Threads)
	defer done()
	j := &statsJob{scoreJob: scoreJob{opts: opts.Options, pool: pool.With(compute.F32)}, shard: opts.Shard, command: opts.command, unscored: opts.unscored}
	defer j.close()
	if err := j.open(); err != nil {
		return nil, err
	}
	if err := j.divide(); err != nil {
		return nil, err
	}
	r, err := j.collect(ctx)
	if err != nil {
		return nil, err
	}
	r.Seconds, r.PeakRSSBytes = time.Since(began).Seconds(), rss.Peak()
	return r, nil
}

func (o *StatsOptions) check() error {
	switch {
	case o.Method != "" && o.Method != Fisher:
		return fault.Usagef("statistics are of method fisher, not %s", o.Method)
	case o.Validate != 0:
		return fault.Usagef("statistics have no validation; validate scores")
	case o.Out == "":
		return fault.Usagef("no output directory")
	}
	if o.unscored {
		o.Ends = false
	}
	o.Method = Fisher
	if o.command == "" {
		o.command = commandStats
	}
	return o.Options.Check()
}

// statsJob is a call of CollectStats.
type statsJob struct {
	scoreJob
	shard      shard.Shard
	command    string
	unscored   bool
	leaves     int // of the whole text
	from, to   int // leaves that run
	identified []byte
}

// divide chooses the leaves of the shard.
func (j *statsJob) divide() error {
	j.leaves = leaves(j.text)
	if j.shard.Count > j.leaves {
		return fault.Usagef("%d shards of a text that can be divided into %d", j.shard.Count, j.leaves).
			WithHint("a shard has at least one sequence and %d tokens, and there are at most %d", leafTokens, maxLeaves)
	}
	j.from, j.to = j.shard.Range(j.leaves)
	return nil
}

// collect runs the job in its staging directory.
func (j *statsJob) collect(ctx context.Context) (*StatsResult, error) {
	identity, err := j.identity(ctx)
	if err != nil {
		return nil, err
	}
	j.identified = bytes.Replace(identity, []byte(`"job":"sensitivity/v3"`), []byte(`"job":"`+j.command+`-shard/v1"`), 1)
	target := j.opts.Out
	if j.shard.Divided() {
		set, err := shard.Join(target, j.command, j.shard, j.identified, struct{}{}, shardNames())
		if err != nil {
			return nil, err
		}
		target = set.Path(j.shard.Index)
		if set.Finished(j.shard.Index) {
			p, err := openPart(target)
			if err != nil {
				return nil, err
			}
			return &StatsResult{Path: target, Bytes: p.bytes(), Tokens: p.Tokens, Layers: j.cfg.Layers, ResumedLayers: j.cfg.Layers, Already: true}, nil
		}
	}
	dir, err := stage.Open(target, j.identified, stage.Options{NeedBytes: j.needBytes(), Restart: j.opts.Restart, Names: jobNames})
	if err != nil {
		return nil, err
	}
	finished := false
	defer func() {
		if !finished {
			dir.Keep() // a panic
		}
	}()
	r, err := j.fill(ctx, dir)
	finished = true
	if err = dir.End(err); err != nil {
		return nil, err
	}
	r.Path = target
	return r, nil
}

func shardNames() (out []shard.Name) {
	for _, n := range jobNames {
		out = append(out, shard.Name(n))
	}
	return out
}

// needBytes returns the size of the statistics, where a shard whose leaves are no subtree of the text
// has up to twice as many sums for each level of the tree.
func (j *statsJob) needBytes() int64 {
	if j.scoresOnly() {
		return 1 << 20
	}
	nodes := int64(0)
	for at := j.from; at < j.to; {
		size := 1
		for at%(2*size) == 0 && at+2*size <= j.to {
			size *= 2
		}
		at += size
		nodes++
	}
	n := int64(0)
	for _, spec := range j.cfg.Tensors() {
		if spec.Role == model.Projection {
			n += 8 * nodes * int64(spec.Shape[0])
			if FullOutput(spec) {
				n += 2 * nodes * int64(spec.Shape[0]) * int64(spec.Shape[0]+1)
			}
			if firstOfGroup(spec.Kind) && j.inputs() {
				n += 2 * nodes * int64(spec.Shape[1]) * int64(spec.Shape[1]+1)
			}
		}
	}
	if j.inputs() {
		n += 2 * nodes * int64(j.cfg.HiddenSize) * int64(j.cfg.HiddenSize+1)
	}
	return n + 1<<20
}

// scoresOnly reports whether no moments are wanted.
func (j *statsJob) scoresOnly() bool { return j.command == commandScores }

// inputs reports whether the moments of inputs are wanted.
func (j *statsJob) inputs() bool { return j.command == commandStats }

// MaxOutputRows is the number of outputs of gate and up to which statistics have their whole second
// moment. Above, it would be the largest of a layer; its diagonal says most of what it does.
const MaxOutputRows = 2048

// FullOutput reports whether statistics have the whole second moment of the gradients at the outputs of a
// projection, or their squares alone.
func FullOutput(spec model.TensorSpec) bool {
	switch spec.Kind {
	case "gate_proj", "up_proj", "gate_up_proj":
		return spec.Shape[0] <= MaxOutputRows
	}
	return true
}

// firstOfGroup reports whether a projection is the first of those that share its input.
func firstOfGroup(kind string) bool { return model.InputGroup(kind)[0] == kind }

// fill computes the statistics into dir.
func (j *statsJob) fill(ctx context.Context, dir *stage.Dir) (r *StatsResult, err error) {
	defer compute.Recover(&err)
	journal, err := dir.Journal()
	if err != nil {
		return nil, err
	}
	pieces := j.cfg.Layers + 1
	if j.opts.Ends {
		pieces++
	}
	if err := shard.SetPieces(dir.StatePath(""), pieces); err != nil {
		return nil, err
	}
	j.opts.Scratch = dir.StatePath("")
	s, err := j.newScorer(ctx)
	if err != nil {
		return nil, err
	}
	defer s.closeText()
	s.runLeaves(j.from, j.to)
	c := &collector{statsJob: j, estimator: newFisherEstimator(s), dir: dir, journal: journal}
	c.estimator.unscored = j.unscored
	c.part = statsPart{
		Schema: StatsSchema, ToolVersion: j.opts.ToolVersion, Job: j.identified, Calibration: &j.text.Record, Tokens: s.tokens(),
		Leaves: j.leaves, FirstLeaf: j.from, EndLeaf: j.to, Samples: j.opts.Samples, Sums: map[string][][]float64{},
	}
	if c.part.Scores, err = j.emptyScores(s); err != nil {
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	r = &StatsResult{Tokens: s.tokens(), Layers: j.cfg.Layers, ResumedLayers: c.resumed, Bytes: c.part.bytes(), Warnings: j.text.Warnings}
	return r, c.finish()
}

// emptyScores returns the scores of the job with all costs 0.
func (j *statsJob) emptyScores(s *scorer) (*Scores, error) {
	return j.scores(s, s.noCosts())
}

// collector computes the statistics of a job.
type collector struct {
	*statsJob
	estimator *fisherEstimator
	dir       *stage.Dir
	journal   *stage.Journal
	part      statsPart
	resumed   int // layers

	// Of the layer that runs, by module.
	moments   map[string]*leafMoments // of inputs
	outputs   map[string]*leafMoments // of gradients
	gradients map[string]*leafMoments // the squares of gradients, where outputs has none
}

// leafMoments accumulates second moments, leaf by leaf.
type leafMoments struct {
	leaf    int
	n       int
	whole   bool
	current []float32 // of the leaf that runs: [n, n] or [n]
	tree    treeSum
}

// at returns the sums of a leaf, after those of the leaf before it are in the tree.
func (m *leafMoments) at(leaf int) []float32 {
	if m.current != nil && leaf != m.leaf {
		m.flush()
	}
	m.leaf = leaf
	if m.current == nil {
		size := m.n
		if m.whole {
			size *= m.n
		}
		m.current = make([]float32, size)
	}
	return m.current
}

// flush moves the sums of the current leaf to the tree.
func (m *leafMoments) flush() {
	if m.current == nil {
		return
	}
	sum := m.current
	if m.whole {
		sum = packTriangle(m.current, m.n)
		clear(m.current)
	} else {
		m.current = nil
	}
	m.tree.push(treeNode{m.leaf, 1, sum})
}

// layerRecord is the journal's entry of a finished layer; the input of the head is the layer headLayer,
// and the scores of embedding and head endsRecord.
type layerRecord struct {
	Layer  int                    `json:"layer"`
	Sums   map[string][][]float64 `json:"sums"` // by module, [leaf][option]
	File   artifact.FileDigest    `json:"file"`
	Digest string                 `json:"digest"` // of the job and of the record without it
}

// sign returns the record with its digest.
func (c *collector) sign(r layerRecord) (layerRecord, error) {
	r.Digest = ""
	data, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	r.Digest = infile.SHA256(append([]byte(infile.SHA256(c.identified)), data...))
	return r, nil
}

// saved returns the records of the layers whose files are intact.
func (c *collector) saved(ctx context.Context) (map[int]layerRecord, error) {
	out := map[int]layerRecord{}
	for _, line := range c.journal.Records() {
		var r layerRecord
		if json.Unmarshal(line, &r) != nil || c.hasFile(r.Layer) && r.File.Name != layerFile(r.Layer) {
			continue
		}
		want, err := c.sign(r)
		if err != nil || want.Digest != r.Digest {
			continue
		}
		if c.hasFile(r.Layer) {
			got, err := artifact.HashFile(ctx, c.dir.Path(r.File.Name), r.File.Name, nil)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil || got != r.File {
				continue
			}
		}
		out[r.Layer] = r
	}
	return out, nil
}

// run computes the layers that an interrupted run did not.
func (c *collector) run(ctx context.Context) error {
	done, err := c.saved(ctx)
	if err != nil {
		return err
	}
	e := c.estimator
	b := unitBar{progress: c.opts.Progress, e: e, name: OutputStage(c.unscored), state: c.dir.State(), all: e.units()}
	for u := range e.units() {
		b.total += e.work(u)
		if r, ok := done[recordOf(e.layer(u))]; ok {
			b.before += e.work(u)
			b.done++
			c.keep(r)
		}
	}
	c.resumed = min(b.done, c.cfg.Layers)
	switch headDone := has(done, headLayer); {
	case b.done < b.all || !headDone && c.inputs():
		if err := c.prepare(ctx, done); err != nil {
			return err
		}
	case headDone:
		c.keep(done[headLayer])
	}
	b.start(false)
	defer c.opts.Progress.Done()
	for u := range e.units() {
		layer := e.layer(u)
		if has(done, recordOf(layer)) {
			continue
		}
		if err := c.layer(ctx, layer); err != nil {
			return err
		}
		b.add(true)
	}
	return nil
}

func has(m map[int]layerRecord, layer int) bool {
	_, ok := m[layer]
	return ok
}

// keep adds a finished layer to the part.
func (c *collector) keep(r layerRecord) {
	if c.hasFile(r.Layer) {
		c.part.Files = append(c.part.Files, r.File)
	}
	for name, sums := range r.Sums {
		c.part.Sums[name] = sums
	}
}

// prepare runs the text forward; the input of the head is the first that is complete.
func (c *collector) prepare(ctx context.Context, done map[int]layerRecord) error {
	e := c.estimator
	if r, ok := done[headLayer]; ok {
		c.keep(r)
		return e.prepare(ctx)
	}
	if !c.inputs() {
		return e.prepare(ctx)
	}
	d := c.cfg.HiddenSize
	head := &leafMoments{n: d, whole: true}
	e.headInput = func(leaf int, x []float32, tokens int) { c.pool.AddGram(head.at(leaf), x, tokens, d) }
	if err := e.prepare(ctx); err != nil {
		return err
	}
	c.moments, c.outputs, c.gradients = map[string]*leafMoments{headName: head}, nil, nil
	return c.write(headLayer, nil)
}

// layer computes one layer, or embedding and head.
func (c *collector) layer(ctx context.Context, layer int) error {
	e := c.estimator
	c.moments, c.outputs, c.gradients = map[string]*leafMoments{}, map[string]*leafMoments{}, map[string]*leafMoments{}
	names := map[string]string{}
	for _, i := range e.layerModules(layer) {
		spec := e.modules[i].spec
		if e.modules[i].end { // no moments of it
			continue
		}
		names[spec.Kind] = spec.Module()
		if FullOutput(spec) {
			c.outputs[spec.Module()] = &leafMoments{n: spec.Shape[0], whole: true}
		} else {
			c.gradients[spec.Module()] = &leafMoments{n: spec.Shape[0]}
		}
		if firstOfGroup(spec.Kind) && c.inputs() {
			c.moments[spec.Module()] = &leafMoments{n: spec.Shape[1], whole: true}
		}
	}
	e.observe = func(leaf, sample int, p infer.Projected) {
		if c.scoresOnly() {
			return
		}
		name := names[p.Kind]
		if m := c.outputs[name]; m != nil {
			c.pool.AddGram(m.at(leaf), p.G, p.N, m.n)
		} else {
			addSquares(c.gradients[name].at(leaf), p.G)
		}
		if m := c.moments[name]; m != nil && sample == 0 {
			c.pool.AddGram(m.at(leaf), p.X, p.N, m.n)
		}
	}
	sums, err := e.sumsOf(ctx, layer)
	if err != nil {
		return err
	}
	byName := map[string][][]float64{}
	for i, s := range sums {
		byName[e.modules[i].name()] = s
		for _, sum := range s {
			for o, v := range sum {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					return notFinite(&e.modules[i], e.width(&e.modules[i], o), v)
				}
			}
		}
	}
	return c.write(recordOf(layer), byName)
}

// addSquares adds the squares of the rows of g to sums.
func addSquares(sums, g []float32) {
	n := len(sums)
	for at := 0; at < len(g); at += n {
		for i, v := range g[at : at+n] {
			sums[i] += float32(v * v)
		}
	}
}

// write writes the file of a layer and records it.
func (c *collector) write(layer int, sums map[string][][]float64) error {
	if !c.hasFile(layer) {
		r, err := c.sign(layerRecord{Layer: layer, Sums: sums})
		if err != nil {
			return err
		}
		c.keep(r)
		return c.journal.Append(r)
	}
	name := layerFile(layer)
	var list []statsTensor
	for _, m := range []struct {
		what string
		by   map[string]*leafMoments
	}{{hessianSuffix, c.moments}, {outputSuffix, c.outputs}, {gradientSuffix, c.gradients}} {
		for module, v := range m.by {
			v.flush()
			for _, node := range v.tree.nodes {
				list = append(list, statsTensor{module + m.what, node})
			}
			v.tree, v.current = treeSum{}, nil
		}
	}
	digest, err := writeStatsFile(c.dir.Path(name), name, list)
	if err != nil {
		return err
	}
	r, err := c.sign(layerRecord{Layer: layer, Sums: sums, File: digest})
	if err != nil {
		return err
	}
	c.keep(r)
	return c.journal.Append(r)
}

// finish writes the description of the part.
func (c *collector) finish() error {
	data, err := c.part.encode()
	if err != nil {
		return err
	}
	if err := c.dir.WriteFile(StatsFile, data); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(c.dir.Path(StatsFile)))
}

// Records that are not of a layer.
const (
	headLayer  = -1 // of the input of the head
	endsRecord = -2 // of the scores of embedding and head
)

// recordOf returns the number of the record of a unit of the estimator, which has this layer.
func recordOf(layer int) int {
	if layer == endLayer {
		return endsRecord
	}
	return layer
}

// hasFile reports whether what a record is of has a file.
func (c *collector) hasFile(record int) bool { return !c.scoresOnly() && record != endsRecord }

// headName stands for the head in the names of statistics, also where it is the embedding.
const headName = "lm_head"

// layerFile returns the name of the file with the statistics of a layer.
func layerFile(layer int) string {
	if layer == headLayer {
		return "head.safetensors"
	}
	return fmt.Sprintf("layer-%04d.safetensors", layer)
}

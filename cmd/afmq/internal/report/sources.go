package report

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"afmq/cmd/afmq/internal/device"
	"afmq/internal/infile"
	"afmq/internal/units"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/recovery"
	"afmq/pkg/sensitivity"
)

// opened is the manifest and the config of an artifact, without its weights.
type opened struct {
	dir      string
	manifest *artifact.Manifest
	config   *model.Config
	layout   []artifact.StoredTensor // every tensor of the model, in canonical order
	params   int64
	source   int64 // bytes of the checkpoint's tensors

	scored *artifact.CalibrationRecord // text of the scores; nil without scores or text
}

// openArtifact reads an artifact's manifest and config and checks that they belong
// together.
func openArtifact(dir string) (*opened, error) {
	a := &opened{dir: dir}
	var err error
	if a.manifest, err = artifact.ReadManifest(dir); err != nil {
		return nil, err
	}
	if err := a.checkFiles(); err != nil {
		return nil, err
	}
	if a.config, err = model.LoadConfig(dir); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, artifact.ManifestFile)
	if a.layout, err = artifact.StoredLayout(a.config, a.manifest.Plan.GroupRows, a.manifest.Tensors); err != nil {
		return nil, fault.Inputf(file, "%v", err)
	}
	if got, want := artifact.MeasureBits(a.layout), a.manifest.BPW; math.Abs(got.Projections-want.Projections) > 1e-9 || math.Abs(got.Model-want.Model) > 1e-9 {
		return nil, fault.Inputf(file, "bpw is %v and %v, but the tensors listed give %v and %v", want.Projections, want.Model, got.Projections, got.Model)
	}
	for i := range a.layout {
		a.params += a.layout[i].Weights()
	}
	for _, t := range a.manifest.Source.Tensors {
		n, err := t.Size()
		if err != nil || a.source > math.MaxInt64-n {
			return nil, fault.Inputf(file, "source.tensors: %q is too large", t.Name)
		}
		a.source += n
	}
	return a, nil
}

// maxConfig is the largest size of a config.json that is read.
const maxConfig = 16 << 20

// checkFiles compares the two files that the report depends on with the manifest: the config by its
// digest, the weights by their size, which is fast. `afmq verify` reads every byte.
func (a *opened) checkFiles() error {
	for _, f := range a.manifest.Files {
		path := filepath.Join(a.dir, f.Name)
		switch f.Name {
		case "config.json":
			data, err := infile.ReadBounded(path, min(f.Bytes, maxConfig))
			if err != nil {
				return err
			}
			if infile.SHA256(data) != f.SHA256 {
				return fault.Inputf(path, "is not the file that the manifest describes")
			}
		case artifact.WeightsFile:
			info, err := os.Stat(path)
			if err != nil {
				return fault.Reading(path, err)
			}
			if info.Size() != f.Bytes {
				return fault.Inputf(path, "has %d bytes; the manifest describes a file of %d", info.Size(), f.Bytes)
			}
		}
	}
	return nil
}

// module returns the manifest's entry of a matrix, nil if there is none.
func (a *opened) module(name string) *artifact.ModuleRecord {
	if i := slices.IndexFunc(a.manifest.Plan.Modules, func(m artifact.ModuleRecord) bool { return m.Name == name }); i >= 0 {
		return &a.manifest.Plan.Modules[i]
	}
	return nil
}

// sources are the inputs of a report, read and checked.
type sources struct {
	ctx      context.Context
	pool     *compute.Pool
	opts     Options
	art      *opened
	scores   *sensitivity.Scores
	shape    *sensitivity.Shape
	plan     *sensitivity.Plan
	evals    []*evalGroup
	runs     []recoveryRun
	profiles []*device.Profile

	evalFiles  []*evalFile // of evals, in the order of the command line
	gates      []*gateFile
	comparison *Comparison // nil without one
	samples    *Samples    // nil without a reference
}

// recoveryRun is one directory of `afmq recover`.
type recoveryRun struct {
	dir     string
	record  *recovery.Record
	metrics []recovery.Metric
}

func gather(ctx context.Context, pool *compute.Pool, opts Options) (*sources, error) {
	s := &sources{ctx: ctx, pool: pool, opts: opts, profiles: opts.Devices}
	var err error
	if s.art, err = openArtifact(opts.Artifact); err != nil {
		return nil, err
	}
	if err := s.readScores(); err != nil {
		return nil, err
	}
	if err := s.readPlan(); err != nil {
		return nil, err
	}
	if err := s.readRecoveries(); err != nil {
		return nil, err
	}
	if err := s.readEvals(); err != nil {
		return nil, err
	}
	if err := s.readGates(); err != nil {
		return nil, err
	}
	if err := s.readComparison(); err != nil {
		return nil, err
	}
	return s, s.readSamples(ctx, pool)
}

// readScores reads the scores and compares them with the source of the artifact: its config byte by
// byte, and the names, types and shapes of its tensors.
func (s *sources) readScores() error {
	if s.opts.Scores == "" {
		return nil
	}
	scores, err := sensitivity.ReadScores(s.opts.Scores)
	if err != nil {
		return err
	}
	shape, err := scores.Shape()
	if err != nil {
		return err
	}
	source := s.art.manifest.Source
	other := func(what string) error {
		return fault.Inputf(s.opts.Scores, "belongs to another model than %s: %s", show(s.opts.Artifact), what)
	}
	if infile.SHA256([]byte(scores.Config)) != source.Config {
		return other("its config is not that of the artifact's source")
	}
	stored := map[string]artifact.TensorDigest{}
	for _, t := range source.Tensors {
		stored[t.Name] = t
	}
	for _, t := range scores.Tensors {
		got, ok := stored[t.Name]
		for _, alias := range shape.Config.Aliases(t.Name) {
			if !ok {
				got, ok = stored[alias]
			}
		}
		if !ok || got.DType != t.DType || !slices.Equal(got.Shape, t.Shape) {
			return other(fmt.Sprintf("tensor %q differs", t.Name))
		}
	}
	s.scores, s.shape, s.art.scored = scores, shape, scores.Calibration
	return nil
}

// predicted reports whether the scores predict the loss of the artifact's modules: they are of
// palettes with its group size and row scales.
func (s *sources) predicted() bool {
	p := s.art.manifest.Plan
	if s.scores == nil || (p.Grid != "") != (len(s.scores.Forms) > 0) {
		return false
	}
	return p.Grid != "" || s.scores.GroupRows == p.GroupRows && s.scores.RowScale == p.RowScale
}

// readPlan reads the plan and checks that the artifact follows it.
func (s *sources) readPlan() error {
	if s.opts.Plan == "" {
		return nil
	}
	plan, err := sensitivity.ReadPlan(s.opts.Plan)
	if err != nil {
		return err
	}
	m := s.art.manifest.Plan
	other := func(format string, args ...any) error {
		return fault.Inputf(s.opts.Plan, "is not the plan of %s: %s", show(s.opts.Artifact), fmt.Sprintf(format, args...))
	}
	if formed := plan.Formed(); formed != (m.Grid != "") {
		return other("one has palettes, the other another grid")
	}
	if plan.GroupRows != m.GroupRows || plan.RowScale != m.RowScale {
		return other("group size or row scales differ")
	}
	bits, forms := map[string]int{}, map[string]artifact.Form{}
	for _, l := range plan.Layers {
		bits[l.Name], forms[l.Name] = l.Bits, l.Form
	}
	for i := range s.art.layout {
		st := &s.art.layout[i]
		name := st.Spec.Module()
		want, planned := bits[name]
		delete(bits, name)
		got := st.Bits
		if st.Form == artifact.Plain {
			got = artifact.KeepBits
		}
		switch {
		case st.Spec.Role == model.Projection && !planned:
			return other("it lacks %s", name)
		case planned && got != want:
			return other("%s has %d bits, not %d", name, got, want)
		case planned && forms[name] != "" && st.Form != forms[name]:
			return other("%s is %s, not %s", name, st.Form, forms[name])
		}
	}
	for _, l := range plan.Layers {
		if _, left := bits[l.Name]; left {
			return other("it has %q, which the model lacks", l.Name)
		}
	}
	s.plan = plan
	return nil
}

// readRecoveries reads the recovery directories, which must belong to this artifact.
func (s *sources) readRecoveries() error {
	seen := map[string]bool{}
	for _, dir := range s.opts.Recoveries {
		if clean := filepath.Clean(dir); seen[clean] {
			return fault.Usagef("--recovery %s is given twice", dir)
		} else {
			seen[clean] = true
		}
		record, err := recovery.ReadRecord(dir)
		if err != nil {
			return err
		}
		base, err := record.Artifact()
		if err != nil {
			return err
		}
		if base != s.art.manifest.ContentHash {
			return fault.Inputf(dir, "is a recovery of another artifact than %s: that with content hash %.80q", show(s.opts.Artifact), base)
		}
		metrics, err := recovery.ReadMetrics(dir)
		if err != nil {
			return err
		}
		s.runs = append(s.runs, recoveryRun{dir, record, metrics})
	}
	return nil
}

// subtitle describes the model in one line.
func (s *sources) subtitle() string {
	c := s.art.config
	tied := "untied"
	if c.TieEmbeddings {
		tied = "tied"
	}
	return fmt.Sprintf("%s, %s parameters: %d layers, hidden %s, feed-forward %s, %d query and %d key-value heads of %d, vocabulary %s (%s)",
		c.ModelType, units.Thousands(s.art.params), c.Layers, units.Thousands(int64(c.HiddenSize)), units.Thousands(int64(c.IntermediateSize)),
		c.Heads, c.KVHeads, c.HeadDim, units.Thousands(int64(c.VocabSize)), tied)
}

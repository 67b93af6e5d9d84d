package artifact

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"afmq/internal/infile"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/ggufmodel"
	"afmq/pkg/model"
	"afmq/pkg/progress"
	"afmq/pkg/safetensors"
)

// diffModel is an artifact, a checkpoint or a GGUF file that was opened for a comparison.
type diffModel struct {
	dir      string
	cfg      *model.Config
	artifact *Reader          // one of these three is not nil
	source   *Source          // of a checkpoint
	gguf     *ggufmodel.Model //
	layout   []StoredTensor
	digests  map[string]TensorDigest // of the stored tensors, by their name in the file
	files    map[string]string       // hex SHA-256 of the files other than the weights, by name; nil of a GGUF file
	bytes    int64                   // of the safetensors files, or of the GGUF file
}

func openDiffModel(ctx context.Context, pool *compute.Pool, dir string, p progress.Reporter) (*diffModel, error) {
	if ggufmodel.Is(dir) {
		return openDiffGGUF(ctx, pool, dir, p)
	}
	if IsArtifact(dir) {
		return openDiffArtifact(ctx, pool, dir, p)
	}
	return openDiffCheckpoint(ctx, pool, dir, p)
}

func (s *diffModel) close() {
	if s.artifact != nil {
		s.artifact.Close()
	}
	if s.source != nil {
		s.source.Close()
	}
	if s.gguf != nil {
		s.gguf.Close()
	}
}

func openDiffArtifact(ctx context.Context, pool *compute.Pool, dir string, p progress.Reporter) (*diffModel, error) {
	a, _, err := OpenVerified(ctx, dir, VerifyOptions{Pool: pool, Progress: p})
	if err != nil {
		return nil, err
	}
	m := a.Manifest
	s := &diffModel{dir: dir, cfg: a.Config, artifact: a, layout: a.Layout, digests: a.Digests, files: map[string]string{}, bytes: m.Ledger.Total}
	for _, f := range m.Files {
		if f.Name != WeightsFile {
			s.files[f.Name] = f.SHA256
		}
	}
	s.files[ManifestFile] = a.manifestSHA256
	return s, nil
}

func openDiffCheckpoint(ctx context.Context, pool *compute.Pool, dir string, p progress.Reporter) (*diffModel, error) {
	src, err := OpenSource(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &diffModel{dir: dir, cfg: src.Config, source: src, digests: map[string]TensorDigest{}, bytes: src.Checkpoint.Bytes()}
	s.files = map[string]string{ConfigFile: infile.SHA256(src.RawConfig)}
	for _, f := range src.Copies {
		s.files[f.Name] = f.SHA256
	}
	p.Stage(progress.Stage{Name: StageHash, Work: src.Checkpoint.Bytes()})
	defer p.Done()
	digests, errs := make([]TensorDigest, len(src.Tensors)), make([]error, len(src.Tensors))
	pool.Run(len(src.Tensors), func(_, i int) {
		digests[i], errs[i] = DigestTensor(ctx, src.Tensors[i].Tensor)
		if errs[i] == nil {
			p.Advance(int64(len(src.Tensors[i].Tensor.Bytes())))
		}
	})
	for i, w := range src.Tensors {
		if errs[i] != nil {
			s.close()
			return nil, errs[i]
		}
		s.digests[w.Tensor.Name] = digests[i]
		s.layout = append(s.layout, storedPlain(w.Spec, w.Tensor))
	}
	return s, nil
}

// sameShape returns an error unless two models have the same tensors.
func sameShape(a, b *diffModel) error {
	if len(a.layout) != len(b.layout) {
		return fault.Inputf(b.dir, "has %d tensors and %s has %d; the models differ in shape", len(b.layout), a.dir, len(a.layout))
	}
	for i := range a.layout {
		x, y := &a.layout[i].Spec, &b.layout[i].Spec
		if x.Name != y.Name || !slices.Equal(x.Shape, y.Shape) {
			return fault.Inputf(b.dir, "has tensor %q of shape %v in place of %q of shape %v in %s", y.Name, y.Shape, x.Name, x.Shape, a.dir)
		}
	}
	return nil
}

func (s *diffModel) summary() DiffModel {
	d := DiffModel{Path: s.dir, Kind: "checkpoint", Bytes: s.bytes, BPW: MeasureBits(s.layout)}
	d.ContentHash = ContentHash(slices.Collect(maps.Values(s.digests)))
	if s.artifact != nil {
		d.Kind, d.Ledger = "artifact", &s.artifact.Manifest.Ledger
	}
	if s.gguf != nil {
		d.Kind = "gguf"
	}
	return d
}

// layer returns how the model stores a tensor, with the relative error of the manifest.
func (s *diffModel) layer(st *StoredTensor) LayerForm {
	l := LayerForm{Form: st.Form, Bits: st.Bits, Bytes: st.Bytes}
	if s.artifact == nil {
		return l
	}
	name := st.Spec.Module()
	for _, m := range s.artifact.Manifest.Plan.Modules {
		if m.Name == name {
			l.RelError = &m.RelError
		}
	}
	return l
}

// stores reports whether two models store a tensor in the same bytes.
func (s *diffModel) stores(st *StoredTensor, other *diffModel, as *StoredTensor) bool {
	return slices.EqualFunc(st.Names, as.Names, func(a, b string) bool {
		x, y := s.digests[a], other.digests[b]
		return a == b && x.DType == y.DType && slices.Equal(x.Shape, y.Shape) && x.SHA256 == y.SHA256
	})
}

// rows returns the function that computes rows of tensor i of the model in float32.
func (s *diffModel) rows(i int) (func(dst []float32, r0, r1 int) error, error) {
	if s.gguf != nil {
		return ggufRows(&s.gguf.Tensors[i])
	}
	if s.artifact != nil {
		return s.artifact.Rows(&s.layout[i])
	}
	return denseRows(s.source.Tensors[i].Tensor), nil
}

func (s *diffModel) release(st *StoredTensor) {
	if s.gguf != nil { // its data are read, not mapped
		return
	}
	for _, name := range st.Names {
		var t *safetensors.Tensor
		if s.artifact != nil {
			t, _ = s.artifact.File.Tensor(name)
		} else {
			t, _ = s.source.Checkpoint.Tensor(name)
		}
		t.Release()
	}
}

func compareFiles(a, b map[string]string) []FileDifference {
	names := map[string]bool{}
	for name := range a {
		names[name] = true
	}
	for name := range b {
		names[name] = true
	}
	out := []FileDifference{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if a[name] != b[name] {
			out = append(out, FileDifference{name, a[name], b[name]})
		}
	}
	return out
}

// compareManifests lists the keys about origin and method that differ between two manifests.
func compareManifests(a, b *Manifest) []KeyDifference {
	out := []KeyDifference{}
	add := func(key string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			out = append(out, KeyDifference{key, x, y})
		}
	}
	calibration := func(m *Manifest) string {
		if m.Calibration == nil {
			return ""
		}
		return m.Calibration.Digest
	}
	add("tool_version", a.ToolVersion, b.ToolVersion)
	add("arithmetic", a.Arithmetic, b.Arithmetic)
	add("seed", a.Seed, b.Seed)
	add("source.digest", a.Source.Digest, b.Source.Digest)
	add("calibration.digest", calibration(a), calibration(b))
	add("tokenizer", a.Tokenizer, b.Tokenizer)
	tuning := func(m *Manifest) string {
		var parents []string
		for _, t := range m.Tuning {
			parents = append(parents, t.Parent)
		}
		return strings.Join(parents, ", ")
	}
	add("tuning.parent", tuning(a), tuning(b))
	add("plan.bits", a.Plan.Bits, b.Plan.Bits)
	add("plan.grid", a.Plan.Grid, b.Plan.Grid)
	add("plan.group_rows", a.Plan.GroupRows, b.Plan.GroupRows)
	add("plan.row_scale", a.Plan.RowScale, b.Plan.RowScale)
	add("plan.compensation", a.Plan.Compensation, b.Plan.Compensation)
	return out
}

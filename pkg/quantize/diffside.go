package quantize

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"afmq/internal/fault"
	"afmq/internal/infile"
	"afmq/internal/kernel"
	"afmq/internal/progress"
	"afmq/pkg/infer"
	"afmq/pkg/safetensors"
)

// compared is an artifact or a checkpoint, opened to be compared.
type compared struct {
	dir      string
	cfg      *infer.Config
	artifact *artifact // nil for a checkpoint
	source   *source   // nil for an artifact
	layout   []infer.StoredTensor
	digests  map[string]infer.TensorDigest // of the stored tensors, by their name in the file
	files    map[string]string             // hex SHA-256 of what lies beside the weights
	bytes    int64                         // of the safetensors files
}

func openCompared(ctx context.Context, pool *kernel.Pool, dir string, p progress.Reporter) (*compared, error) {
	if infer.IsArtifact(dir) {
		return openArtifactSide(ctx, pool, dir, p)
	}
	return openCheckpointSide(ctx, pool, dir)
}

func (s *compared) close() {
	if s.artifact != nil {
		s.artifact.file.Close()
	}
	if s.source != nil {
		s.source.close()
	}
}

func openArtifactSide(ctx context.Context, pool *kernel.Pool, dir string, p progress.Reporter) (*compared, error) {
	if _, err := Verify(ctx, pool, dir, p); err != nil {
		return nil, err
	}
	m, err := infer.ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	a, err := openArtifact(dir, m)
	if err != nil {
		return nil, err
	}
	s := &compared{dir: dir, cfg: a.cfg, artifact: a, layout: a.layout, digests: a.digest, files: map[string]string{}, bytes: m.Ledger.Total}
	for _, f := range m.Files {
		if f.Name != infer.WeightsFile {
			s.files[f.Name] = f.SHA256
		}
	}
	path := filepath.Join(dir, infer.ManifestFile)
	data, err := infile.Read(path, 64<<20)
	if err != nil {
		s.close()
		return nil, err
	}
	s.files[infer.ManifestFile] = hexSum(data)
	return s, nil
}

func openCheckpointSide(ctx context.Context, pool *kernel.Pool, dir string) (*compared, error) {
	src, err := openSource(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &compared{dir: dir, cfg: src.cfg, source: src, digests: map[string]infer.TensorDigest{}, bytes: src.ckpt.Bytes()}
	s.files = map[string]string{configFile: hexSum(src.rawConfig)}
	for _, f := range src.copies {
		s.files[f.Name] = f.SHA256
	}
	digests, errs := make([]infer.TensorDigest, len(src.weights)), make([]error, len(src.weights))
	pool.Run(len(src.weights), func(_, i int) {
		digests[i], errs[i] = infer.DigestTensor(ctx, src.weights[i].src)
	})
	for i, w := range src.weights {
		if errs[i] != nil {
			s.close()
			return nil, errs[i]
		}
		s.digests[w.src.Name] = digests[i]
		s.layout = append(s.layout, infer.StoredTensor{
			Spec: w.spec, Form: infer.Plain, Bits: 8 * w.src.DType.Size(), Bytes: int64(len(w.src.Bytes())), Names: []string{w.src.Name},
		})
	}
	return s, nil
}

// sameShape returns an error unless two models have the same tensors.
func sameShape(a, b *compared) error {
	if len(a.layout) != len(b.layout) {
		return fault.Inputf(b.dir, "has %d tensors; %s has %d: they are of different shape", len(b.layout), a.dir, len(a.layout))
	}
	for i := range a.layout {
		x, y := &a.layout[i].Spec, &b.layout[i].Spec
		if x.Name != y.Name || !slices.Equal(x.Shape, y.Shape) {
			return fault.Inputf(b.dir, "has tensor %q of shape %v where %s has %q of %v", y.Name, y.Shape, a.dir, x.Name, x.Shape)
		}
	}
	return nil
}

func (s *compared) summary() DiffSide {
	d := DiffSide{Path: s.dir, Kind: "checkpoint", Bytes: s.bytes, BPW: infer.MeasureBits(s.layout)}
	d.ContentHash = infer.ContentHash(slices.Collect(maps.Values(s.digests)))
	if s.artifact != nil {
		d.Kind, d.Ledger = "artifact", &s.artifact.m.Ledger
	}
	return d
}

// layer says how the side stores a tensor, with the relative error of the manifest.
func (s *compared) layer(st *infer.StoredTensor) LayerSide {
	l := LayerSide{Form: st.Form, Bits: st.Bits, Bytes: st.Bytes}
	if s.artifact == nil {
		return l
	}
	name := st.Spec.Module()
	for _, m := range s.artifact.m.Plan.Modules {
		if m.Name == name {
			l.RelError = &m.RelError
		}
	}
	return l
}

// stores reports whether two sides store a tensor in the same bytes.
func (s *compared) stores(st *infer.StoredTensor, other *compared, as *infer.StoredTensor) bool {
	return slices.EqualFunc(st.Names, as.Names, func(a, b string) bool {
		x, y := s.digests[a], other.digests[b]
		return a == b && x.DType == y.DType && slices.Equal(x.Shape, y.Shape) && x.SHA256 == y.SHA256
	})
}

// rows returns the function that computes rows of tensor i of the model in float32.
func (s *compared) rows(i int) (func(dst []float32, r0, r1 int) error, error) {
	if s.artifact != nil {
		return s.artifact.rows(&s.layout[i])
	}
	return denseRows(s.source.weights[i].src), nil
}

func (s *compared) release(st *infer.StoredTensor) {
	for _, name := range st.Names {
		var t *safetensors.Tensor
		if s.artifact != nil {
			t, _ = s.artifact.file.Tensor(name)
		} else {
			t, _ = s.source.ckpt.Tensor(name)
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

// compareManifests lists what two manifests say differently of where the artifacts come
// from and of how they were made.
func compareManifests(a, b *infer.Manifest) []KeyDifference {
	out := []KeyDifference{}
	add := func(key string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			out = append(out, KeyDifference{key, x, y})
		}
	}
	calibration := func(m *infer.Manifest) string {
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
	add("plan.bits", a.Plan.Bits, b.Plan.Bits)
	add("plan.group_rows", a.Plan.GroupRows, b.Plan.GroupRows)
	add("plan.row_scale", a.Plan.RowScale, b.Plan.RowScale)
	add("plan.compensation", a.Plan.Compensation, b.Plan.Compensation)
	return out
}

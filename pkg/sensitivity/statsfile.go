package sensitivity

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/safetensors"
)

// StatsSchema is the version of stats.json that this package reads and writes.
const StatsSchema = "afmq.statistics/v1"

// StatsFile is the file that describes statistics, in their directory.
const StatsFile = "stats.json"

// statsPart is the content of stats.json: the statistics of a part of the text, or of all of it.
type statsPart struct {
	Schema      string                      `json:"schema"`
	ToolVersion string                      `json:"tool_version"`
	Job         json.RawMessage             `json:"job"` // all that the statistics depend on, but not the shards
	Calibration *artifact.CalibrationRecord `json:"calibration"`
	Tokens      int64                       `json:"tokens"`     // of this part
	Leaves      int                         `json:"leaves"`     // parts that the text is divided into
	FirstLeaf   int                         `json:"first_leaf"` // of this part
	EndLeaf     int                         `json:"end_leaf"`   // the leaf after its last
	Samples     int                         `json:"samples"`    // labels drawn for each token
	Sums        map[string][][]float64      `json:"sums"`       // Σ (g·ΔW·x)² by module, [leaf of the part][option]
	Scores      *Scores                     `json:"scores"`     // without costs, which follow from Sums: they are 0
	Files       []artifact.FileDigest       `json:"files"`      // one for each layer, and one for the input of the head
	Digest      string                      `json:"digest"`     // SHA-256 of all this, with an empty digest

	dir string
}

// Suffixes of the names of tensors, which the range of leaves follows: "…q_proj.hessian.0-8".
const (
	hessianSuffix  = ".hessian"  // upper triangle of Σ x·xᵀ, row by row, F32 [n(n+1)/2]
	outputSuffix   = ".output"   // upper triangle of Σ g·gᵀ, F32 [m(m+1)/2]; or, for gate and up with many outputs,
	gradientSuffix = ".gradient" // Σ g² of each output, F32 [outputs]
)

func (p *statsPart) encode() ([]byte, error) {
	slices.SortFunc(p.Files, func(a, b artifact.FileDigest) int { return cmp.Compare(a.Name, b.Name) })
	var err error
	if p.Digest, err = p.digest(); err != nil {
		return nil, err
	}
	return encode(p)
}

func (p *statsPart) digest() (string, error) {
	content := *p
	content.Digest = ""
	return infile.DigestJSON(&content)
}

// bytes returns the size of the files.
func (p *statsPart) bytes() (n int64) {
	for _, f := range p.Files {
		n += f.Bytes
	}
	return n
}

// statsTensor is a sum over some leaves.
type statsTensor struct {
	name string // without the leaves
	treeNode
}

func (t *statsTensor) fullName() string {
	return fmt.Sprintf("%s.%d-%d", t.name, t.First, t.First+t.Count)
}

// writeStatsFile writes tensors, in the order of their names, to a new file.
func writeStatsFile(path, name string, list []statsTensor) (artifact.FileDigest, error) {
	slices.SortFunc(list, func(a, b statsTensor) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.First, b.First))
	})
	var infos []safetensors.Info
	for i := range list {
		infos = append(infos, safetensors.Info{Name: list[i].fullName(), DType: safetensors.F32, Shape: []int{len(list[i].sum)}})
	}
	w, err := safetensors.Create(path, infos, map[string]string{"format": "afmq.stats"})
	if err != nil {
		return artifact.FileDigest{}, err
	}
	for i := range list {
		var data []byte
		if data, err = binary.Append(nil, binary.LittleEndian, list[i].sum); err == nil {
			err = w.Append(data)
		}
		if err != nil {
			w.Abort()
			return artifact.FileDigest{}, err
		}
	}
	if err := w.Close(); err != nil {
		return artifact.FileDigest{}, err
	}
	return artifact.HashFile(context.Background(), path, name, nil)
}

// openPart reads stats.json in dir.
func openPart(dir string) (*statsPart, error) {
	path := filepath.Join(dir, StatsFile)
	data, err := infile.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	p, err := parsePart(path, data)
	if err != nil {
		return nil, err
	}
	p.dir = dir
	return p, nil
}

// parsePart parses stats.json and checks all that it can without the other files.
func parsePart(path string, data []byte) (*statsPart, error) {
	p := &statsPart{}
	if err := decode(data, p); err != nil {
		return nil, fault.Inputf(path, "is not a description of statistics: %v", err)
	}
	if err := p.check(path); err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			return nil, err
		}
		return nil, fault.Inputf(path, "%v", err)
	}
	return p, nil
}

func (p *statsPart) check(path string) error {
	switch {
	case p.Schema != StatsSchema:
		return fmt.Errorf("has schema %q; this version reads %q", p.Schema, StatsSchema)
	case p.Scores == nil || p.Calibration == nil || len(p.Job) == 0:
		return errors.New("has no scores, no calibration or no job")
	case p.Leaves < 1 || p.Leaves > maxLeaves || p.FirstLeaf < 0 || p.FirstLeaf >= p.EndLeaf || p.EndLeaf > p.Leaves:
		return fmt.Errorf("has the leaves %d to %d of %d", p.FirstLeaf, p.EndLeaf, p.Leaves)
	case p.Samples < 1 || p.Tokens < 1 || int64(p.Calibration.Tokens) < p.Tokens:
		return fmt.Errorf("has %d tokens of %d and %d samples", p.Tokens, p.Calibration.Tokens, p.Samples)
	}
	shape, err := p.Scores.check(path)
	if err != nil {
		return err
	}
	if err := p.checkFiles(shape.Config.Layers); err != nil {
		return err
	}
	for i := range p.Scores.units() {
		name, costs := p.Scores.unitName(i), p.Scores.costs(i)
		sums := p.Sums[name]
		if len(sums) != p.EndLeaf-p.FirstLeaf {
			return fmt.Errorf("has the sums of %d leaves of module %q; it has %d leaves", len(sums), name, p.EndLeaf-p.FirstLeaf)
		}
		for _, sum := range sums {
			if len(sum) != len(costs) || slices.ContainsFunc(sum, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) || v < 0 }) {
				return fmt.Errorf("module %q has sums that are no squares, or not one for each option", name)
			}
		}
	}
	if len(p.Sums) != p.Scores.units() {
		return fmt.Errorf("has the sums of %d modules; the model has %d", len(p.Sums), p.Scores.units())
	}
	return checkDigest(p.digest, p.Digest)
}

// checkDigest compares a digest with the one that a file has of its own content.
func checkDigest(content func() (string, error), recorded string) error {
	if got, err := content(); err != nil || got != recorded {
		return errors.New("does not match the digest that it has of its content: it was changed or is damaged")
	}
	return nil
}

// checkFiles checks that the part has the files of all layers and, with inputs, of the head, or, with
// scores alone, none.
func (p *statsPart) checkFiles(layers int) error {
	if len(p.Files) == 0 {
		return nil
	}
	known := map[string]bool{}
	if slices.ContainsFunc(p.Files, func(f artifact.FileDigest) bool { return f.Name == layerFile(headLayer) }) {
		known[layerFile(headLayer)] = true
	}
	for layer := range layers {
		known[layerFile(layer)] = true
	}
	for _, f := range p.Files {
		if !known[f.Name] {
			return fmt.Errorf("lists the file %q, which is not that of a layer, or twice", f.Name)
		}
		delete(known, f.Name)
	}
	if len(known) > 0 {
		return fmt.Errorf("does not list the files of %d layers", len(known))
	}
	return nil
}

// open opens a file of the part after it has compared it with its digest.
func (p *statsPart) open(ctx context.Context, name string) (*safetensors.File, error) {
	path := filepath.Join(p.dir, name)
	i := slices.IndexFunc(p.Files, func(f artifact.FileDigest) bool { return f.Name == name })
	if i < 0 {
		return nil, fault.Inputf(p.dir, "%s does not list %s", StatsFile, name)
	}
	got, err := artifact.HashFile(ctx, path, name, nil)
	if err != nil {
		return nil, err
	}
	if got != p.Files[i] {
		return nil, fault.Inputf(path, "does not match %s: %d bytes with SHA-256 %s, expected %d with %s", StatsFile, got.Bytes, got.SHA256, p.Files[i].Bytes, p.Files[i].SHA256)
	}
	return safetensors.Open(path)
}

// nodes returns the sums of one quantity in an open file, of n values each.
func (p *statsPart) nodes(f *safetensors.File, quantity string, n int) ([]treeNode, error) {
	var out []treeNode
	err := safetensors.Guard(f.Path(), func() error {
		for _, name := range f.Names() {
			rest, ok := strings.CutPrefix(name, quantity+".")
			if !ok {
				continue
			}
			node, err := parseLeaves(rest)
			t, _ := f.Tensor(name)
			if err != nil || t.DType != safetensors.F32 || len(t.Shape) != 1 || t.Shape[0] != n {
				return fault.Inputf(f.Path(), "tensor %q: expected the leaves at the end of the name, and F32 [%d]", name, n)
			}
			if err := t.CheckFinite(); err != nil {
				return err
			}
			node.sum = make([]float32, n)
			if err := t.Float32(node.sum, 0); err != nil {
				return err
			}
			t.Release()
			out = append(out, node)
		}
		slices.SortFunc(out, func(a, b treeNode) int { return cmp.Compare(a.First, b.First) })
		if !covers(out, p.FirstLeaf, p.EndLeaf) {
			return fault.Inputf(f.Path(), "tensors %q.* do not cover the leaves %d to %d", quantity, p.FirstLeaf, p.EndLeaf)
		}
		return nil
	})
	return out, err
}

// parseLeaves reads "4-8".
func parseLeaves(s string) (treeNode, error) {
	first, end, ok := strings.Cut(s, "-")
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(end)
	if !ok || err1 != nil || err2 != nil || a < 0 || b <= a || b > maxLeaves {
		return treeNode{}, errors.New("no range of leaves")
	}
	return treeNode{First: a, Count: b - a}, nil
}

package artifact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/fault"
	"afmq/pkg/grid"
	"afmq/pkg/safetensors"
)

const (
	maxManifestBytes = 64 << 20 // a manifest takes some 200 bytes a tensor
	maxTensorDims    = 8
)

// ReadManifest reads dir/manifest.json and checks it against dir/manifest.sha256 and for
// consistency (see [ParseManifest]). [Verify] compares it with the other files. Errors are of
// kind [fault.Input] and name the file.
func ReadManifest(dir string) (*Manifest, error) {
	m, _, err := readManifest(dir)
	return m, err
}

// readManifest is ReadManifest; it returns the SHA-256 of the file, in lower-case hex, too.
func readManifest(dir string) (*Manifest, string, error) {
	path := filepath.Join(dir, ManifestFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, "", notArtifact(dir)
	}
	data, err := infile.ReadBounded(path, maxManifestBytes)
	if err != nil {
		return nil, "", err
	}
	sumPath := filepath.Join(dir, ManifestDigestFile)
	sum, err := infile.ReadBounded(sumPath, 1<<10)
	if err != nil {
		return nil, "", err
	}
	if want := ManifestDigest(data); !bytes.Equal(sum, want) {
		return nil, "", fault.Inputf(sumPath, "is not the SHA-256 of %s, which is %s", ManifestFile, bytes.TrimSpace(want))
	}
	m, err := ParseManifest(path, data)
	return m, infile.SHA256(data), err
}

// IsArtifact reports whether dir has a manifest.json, which distinguishes an artifact from a
// checkpoint.
func IsArtifact(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, ManifestFile))
	return err == nil
}

// ParseManifest parses the bytes of a manifest. It refuses another version, unknown, duplicate
// and missing keys, file names with a path, unsorted lists, impossible sizes, and a ledger,
// content hash or source digest that does not follow from the listed tensors. Errors are of kind
// [fault.Input] and name file.
func ParseManifest(file string, data []byte) (*Manifest, error) {
	bad := func(format string, args ...any) (*Manifest, error) {
		return nil, fault.Inputf(file, format, args...)
	}
	if len(data) > maxManifestBytes {
		return bad("is larger than %d bytes", maxManifestBytes)
	}
	if !utf8.Valid(data) {
		return bad("is not valid UTF-8")
	}
	if err := infile.CheckJSON(data); err != nil {
		return bad("%v", err)
	}
	// Check the version first: another version may have other keys.
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return bad("not a manifest: %v", err)
	}
	if head.Schema != ManifestSchema {
		return bad("schema is %q; this program reads %q", head.Schema, ManifestSchema)
	}
	m := new(Manifest)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return bad("not a manifest: %v", err)
	}
	if err := m.check(); err != nil {
		return bad("%v", err)
	}
	return m, nil
}

func (m *Manifest) check() error {
	for _, d := range []struct{ what, hex string }{
		{"source.digest", m.Source.Digest}, {"source.config", m.Source.Config},
		{"tokenizer", m.Tokenizer}, {"content_hash", m.ContentHash},
	} {
		if err := checkDigest(d.what, d.hex); err != nil {
			return err
		}
	}
	if m.Calibration != nil {
		if err := m.Calibration.check(); err != nil {
			return err
		}
	}
	for i := range m.Tuning {
		if err := m.Tuning[i].check(); err != nil {
			return err
		}
	}
	if c := m.Plan.Choice; c != nil && c.By != ByPlan && c.By != ByTarget && c.By != ByBits {
		return fmt.Errorf("plan.choice.by is %.40q; expected %s, %s or %s", c.By, ByPlan, ByTarget, ByBits)
	}
	if c := m.Plan.Choice; c != nil && c.Of != "" && c.Of != OfModel {
		return fmt.Errorf("plan.choice.of is %.40q; expected %q or none", c.Of, OfModel)
	}
	if m.ToolVersion == "" || m.Arithmetic == "" {
		return errors.New("tool_version or arithmetic is missing")
	}
	if err := checkTensors("source.tensors", m.Source.Tensors); err != nil {
		return err
	}
	if err := checkTensors("tensors", m.Tensors); err != nil {
		return err
	}
	if got := ContentHash(m.Tensors); got != m.ContentHash {
		return fmt.Errorf("content_hash is %s, but that of the listed tensors is %s", m.ContentHash, got)
	}
	if got := NewSourceDigest(m.Source.Config, m.Source.Tensors).Digest; got != m.Source.Digest {
		return fmt.Errorf("source.digest is %s, but that of the listed tensors is %s", m.Source.Digest, got)
	}
	weights, err := m.checkFiles()
	if err != nil {
		return err
	}
	ledger, err := NewLedger(m.Tensors, weights)
	if err != nil {
		return err
	}
	if ledger != m.Ledger {
		return fmt.Errorf("ledger is %+v, but that of the listed tensors is %+v", m.Ledger, ledger)
	}
	for _, v := range []float64{m.BPW.Projections, m.BPW.Model} {
		if !(v >= 0 && v <= 64) {
			return fmt.Errorf("bpw %v is impossible", v)
		}
	}
	if a := m.BPW.WithAdapter; a != nil && !(*a >= 0 && *a <= 64) {
		return fmt.Errorf("bpw %v is impossible", *a)
	}
	return m.Plan.check()
}

func (p *QuantizationRecord) check() error {
	if p.Bits < 1 || p.Bits > 8 {
		return fmt.Errorf("plan.bits is %d, not 1 to 8", p.Bits)
	}
	if p.GroupRows < 1 || p.GroupRows > math.MaxInt32 {
		return fmt.Errorf("plan.group_rows is %d", p.GroupRows)
	}
	if p.Grid != "" {
		if p.Grid == grid.FamilyPalette || !slices.Contains(grid.Families(), p.Grid) {
			return fmt.Errorf("plan.grid is %.20q", p.Grid)
		}
		if p.RowScale {
			return fmt.Errorf("plan.grid is %q with row scales, which belong to palettes", p.Grid)
		}
	}
	seen := make(map[string]bool, len(p.Modules))
	for i, pm := range p.Modules {
		if err := checkTensorName(pm.Name); err != nil {
			return fmt.Errorf("plan.modules[%d]: %v", i, err)
		}
		if seen[pm.Name] {
			return fmt.Errorf("plan has a duplicate module %q", pm.Name)
		}
		seen[pm.Name] = true
		ok := false
		switch pm.Form {
		case Palette:
			ok = pm.Bits >= 1 && pm.Bits <= 8
		case RowInt8:
			ok = pm.Bits == 8
		case Plain:
			ok = pm.Bits == 16 || pm.Bits == 32
		default:
			g, known := pm.Form.Grid(safetensors.F16)
			if !known {
				return fmt.Errorf("plan: module %q: unknown form %q", pm.Name, pm.Form)
			}
			ok = pm.Bits == g.CodeBits()
		}
		if !ok {
			return fmt.Errorf("plan: module %q: form %q cannot have %d bits", pm.Name, pm.Form, pm.Bits)
		}
		if family := pm.Form.family(); family != p.Grid && pm.Form != Plain {
			return fmt.Errorf("plan: module %q has form %q; plan.grid is %q", pm.Name, pm.Form, p.Grid)
		}
		if pm.Bytes < 0 || !(pm.RelError >= 0) || math.IsInf(pm.RelError, 0) || !(pm.OutputError >= 0) || math.IsInf(pm.OutputError, 0) {
			return fmt.Errorf("plan: module %q: negative bytes or error", pm.Name)
		}
	}
	return nil
}

// family returns the family of the grid of a form; empty for palettes and what is on no grid.
func (f Form) family() string {
	if g, ok := f.Grid(safetensors.F16); ok {
		return grid.Family(g)
	}
	return ""
}

// checkFiles returns the size of the weights file.
func (m *Manifest) checkFiles() (int64, error) {
	weights := int64(-1)
	for i, f := range m.Files {
		if err := checkFileName(f.Name); err != nil {
			return 0, fmt.Errorf("files[%d]: %v", i, err)
		}
		if i > 0 && m.Files[i-1].Name >= f.Name {
			return 0, fmt.Errorf("files: %q is a duplicate or out of order", f.Name)
		}
		if f.Bytes < 0 {
			return 0, fmt.Errorf("files: %q: negative size", f.Name)
		}
		if err := checkDigest("files: "+f.Name, f.SHA256); err != nil {
			return 0, err
		}
		if f.Name == WeightsFile {
			weights = f.Bytes
		}
	}
	if weights < 0 {
		return 0, fmt.Errorf("files: %s is not listed", WeightsFile)
	}
	return weights, nil
}

func checkTensors(what string, tensors []TensorDigest) error {
	if len(tensors) == 0 {
		return fmt.Errorf("%s is empty or missing", what)
	}
	for i, t := range tensors {
		if err := checkTensorName(t.Name); err != nil {
			return fmt.Errorf("%s[%d]: %v", what, i, err)
		}
		if i > 0 && tensors[i-1].Name >= t.Name {
			return fmt.Errorf("%s: %q is a duplicate or out of order", what, t.Name)
		}
		if t.Shape == nil {
			return fmt.Errorf("%s: %q has no shape", what, t.Name)
		}
		if _, err := t.Size(); err != nil {
			return err
		}
		if err := checkDigest(what+": "+t.Name, t.SHA256); err != nil {
			return err
		}
	}
	return nil
}

func checkDigest(what, s string) error {
	if !infile.IsSHA256(s) {
		return fmt.Errorf("%s: %.80q is not a SHA-256 in lower-case hex", what, s)
	}
	return nil
}

func checkTensorName(s string) error {
	if s == "" || len(s) > 512 {
		return fmt.Errorf("name %.80q is empty or too long", s)
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == utf8.RuneError {
			return fmt.Errorf("name %.80q has a control character", s)
		}
	}
	return nil
}

func checkFileName(s string) error {
	if err := checkTensorName(s); err != nil {
		return err
	}
	if len(s) > 255 || s == "." || s == ".." || strings.ContainsAny(s, `/\:`) {
		return fmt.Errorf("%.80q is not a plain file name", s)
	}
	if s == ManifestFile || s == ManifestDigestFile {
		return fmt.Errorf("%q cannot list itself", s)
	}
	return nil
}

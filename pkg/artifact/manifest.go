package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"

	"afmq/pkg/ggml"
	"afmq/pkg/grid"
	"afmq/pkg/safetensors"
)

// ManifestSchema is the version of manifest.json that this package writes. It
// reads no other.
const ManifestSchema = "afmq.manifest/v1"

// The files of an artifact that are not ordinary content.
const (
	ManifestFile       = "manifest.json"     // the manifest
	ManifestDigestFile = "manifest.sha256"   // hex SHA-256 of the manifest's raw bytes, then one line feed
	WeightsFile        = "model.safetensors" // the tensors
)

// Manifest describes the origin and the content of an artifact. It has no time and no path, so
// that equal jobs give equal bytes.
type Manifest struct {
	Schema      string             `json:"schema"`           // ManifestSchema
	ToolVersion string             `json:"tool_version"`     // of the program that wrote the artifact
	Arithmetic  string             `json:"arithmetic"`       // of the models' products in the computation that chose the values: "f32"
	Seed        int64              `json:"seed"`             // of every random choice; 0 where there was none
	Source      SourceDigest       `json:"source"`           // the 16-bit checkpoint
	Calibration *CalibrationRecord `json:"calibration"`      // what text was looked at; null without any
	Tokenizer   string             `json:"tokenizer"`        // hex SHA-256 of tokenizer.json
	Plan        QuantizationRecord `json:"plan"`             // what was done to each matrix
	Tuning      []TuningRecord     `json:"tuning,omitempty"` // how its numbers were trained since, in order
	BPW         BitsPerWeight      `json:"bpw"`
	Ledger      Ledger             `json:"ledger"`
	ContentHash string             `json:"content_hash"` // ContentHash(Tensors); what an adapter is bound to
	Files       []FileDigest       `json:"files"`        // every file but the manifest and its digest, in name order
	Tensors     []TensorDigest     `json:"tensors"`      // every tensor of model.safetensors, in name order
}

// SourceDigest identifies the checkpoint that an artifact was made from by its content. The
// division into shards does not matter.
type SourceDigest struct {
	// Digest is the hex SHA-256 of the text "CONTENT\nCONFIG\n", where CONTENT is
	// ContentHash(Tensors) and CONFIG is Config.
	Digest  string         `json:"digest"`
	Config  string         `json:"config"`  // hex SHA-256 of the checkpoint's config.json
	Tensors []TensorDigest `json:"tensors"` // as stored there, in name order
}

// NewSourceDigest computes the digest of a checkpoint from the SHA-256 of its
// config.json, in hex, and its tensors, which it sorts by name.
func NewSourceDigest(config string, tensors []TensorDigest) SourceDigest {
	sortTensors(tensors)
	sum := sha256.Sum256([]byte(ContentHash(tensors) + "\n" + config + "\n"))
	return SourceDigest{Digest: hex.EncodeToString(sum[:]), Config: config, Tensors: tensors}
}

// QuantizationRecord is what was asked for and, module by module, what was done.
type QuantizationRecord struct {
	Bits      int  `json:"bits"`       // default palette width
	GroupRows int  `json:"group_rows"` // rows that share a look-up table
	RowScale  bool `json:"row_scale"`  // every palettized matrix has a factor for each row; else none has
	// Compensation is the method of error compensation: "gptq" or "none".
	Compensation string         `json:"compensation"`
	Modules      []ModuleRecord `json:"modules"` // every quantizable matrix in canonical order: projections, embedding, head
	// Grid is the family of the grids that the matrices have, such as "gguf" (grid.Family); empty
	// for palettes.
	Grid string `json:"grid,omitempty"`
	// Choice is what chose the widths of the modules; nil in manifests of former versions.
	Choice *ChoiceRecord `json:"choice,omitempty"`
}

// ChoiceRecord is what chose the widths of an artifact's modules: a plan file, a target, or the
// same bits for all. Overrides apply to the last two.
type ChoiceRecord struct {
	By        ChoiceSource `json:"by"`
	Method    string       `json:"method,omitempty"`    // that scored the modules for a target
	BPW       float64      `json:"bpw,omitempty"`       // target: bits per weight of what Of says
	MaxBytes  int64        `json:"max_bytes,omitempty"` // target: bytes of model.safetensors, or with blocks of ggml of the GGUF file
	Of        string       `json:"of,omitempty"`        // target: OfModel if embedding and head take part and BPW is BitsPerWeight.Model; else of the projections
	Widths    []int        `json:"widths,omitempty"`    // candidates for a target
	Forms     []Form       `json:"forms,omitempty"`     // of projections that are not palettes: candidates for a target, or the one form of all
	Tie       []string     `json:"tie,omitempty"`       // modules of a layer that a target gives equal bits
	Overrides []string     `json:"overrides,omitempty"` // REGEX=BITS; the last match decides
}

// OfModel in ChoiceRecord.Of says that a target is of all parameters.
const OfModel = "model"

// ChoiceSource says what chose the widths.
type ChoiceSource string

const (
	ByPlan   ChoiceSource = "plan"   // a plan file
	ByTarget ChoiceSource = "target" // a target, for which the modules were scored
	ByBits   ChoiceSource = "bits"   // QuantizationRecord.Bits
)

// ModuleRecord is one matrix of a [QuantizationRecord].
type ModuleRecord struct {
	Name     string  `json:"name"`      // module name: the tensor's without ".weight"
	Form     Form    `json:"form"`      // how it is stored
	Bits     int     `json:"bits"`      // bits an index or an int8 value takes; of the stored type where kept plain
	Bytes    int64   `json:"bytes"`     // all its stored tensors together
	RelError float64 `json:"rel_error"` // ‖Ŵ−W‖/‖W‖ (Frobenius)
	// OutputError is ‖(Ŵ−W)·X‖² over the calibration tokens, relative to its value without
	// compensation; absent without compensation.
	OutputError float64 `json:"output_error,omitempty"`
	// Warning is the reason why a module was not compensated.
	Warning string `json:"warning,omitempty"`
}

// Form is how a matrix of the model is stored in an artifact.
type Form string

const (
	// Palette: X.weight.indices (U8 [rows, ceil(cols·bits/8)]), X.weight.lut
	// (F16 [ceil(rows/group), 2^bits]) and, with row scales, X.weight.row_scale
	// (F16 [rows]).
	Palette Form = "palette"
	// RowInt8: X.weight.q (I8 [rows, cols], −127…127) and X.weight.scale (F32
	// [rows]); the value is q·scale.
	RowInt8 Form = "int8_row"
	// Plain: under its own name in its own type.
	Plain Form = "plain"
)

// GridForm is the form of a matrix on a grid that is not a palette: the grid's name, such as "q4_k"
// or "affine4_g64". It has the grid's tensors, the first of them X.weight.FORM.
func GridForm(g grid.Grid) Form { return Form(g.String()) }

// Grid returns the grid of a [GridForm], and whether f is one. scales is the type of its scales,
// where it has any.
func (f Form) Grid(scales safetensors.DType) (grid.Grid, bool) { return grid.Parse(string(f), scales) }

// OnGrid reports whether f is a [GridForm].
func (f Form) OnGrid() bool {
	_, ok := f.Grid(safetensors.F16)
	return ok
}

// Block returns the type of the blocks of ggml of a form, and whether it has any.
func (f Form) Block() (ggml.Type, bool) {
	g, _ := f.Grid(safetensors.F16)
	b, ok := g.(grid.Block)
	return b.Type, ok
}

// ScaleType returns the type of the scales of a matrix on a grid: BF16 for one that the checkpoint
// has in BF16, else F16.
func ScaleType(source safetensors.DType) safetensors.DType {
	if source == safetensors.BF16 {
		return source
	}
	return safetensors.F16
}

// FileDigest identifies one file.
type FileDigest struct {
	Name   string `json:"name"` // plain, without a directory
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hex, lower case
}

// TensorDigest identifies one stored tensor.
type TensorDigest struct {
	Name   string `json:"name"`
	DType  string `json:"dtype"` // as safetensors spells it: "F16", "U8"
	Shape  []int  `json:"shape"`
	SHA256 string `json:"sha256"` // of the tensor's raw bytes; hex, lower case
}

// ContentHash returns the hex SHA-256 that identifies a set of tensors. The
// hashed bytes are, for every tensor in ascending byte order of the names,
//
//	NAME 0x00 DTYPE 0x00 SHAPE 0x00 SHA256 0x0A
//
// with SHAPE the extents in decimal joined by commas (empty for a scalar) and
// SHA256 the data's digest in lower-case hex. The order in the file and the bytes of its header
// do not matter. The argument is not changed.
func ContentHash(digests []TensorDigest) string {
	sorted := append([]TensorDigest(nil), digests...)
	sortTensors(sorted)
	h := sha256.New()
	var line []byte
	for _, t := range sorted {
		line = append(line[:0], t.Name...)
		line = append(line, 0)
		line = append(line, t.DType...)
		line = append(line, 0)
		for i, n := range t.Shape {
			if i > 0 {
				line = append(line, ',')
			}
			line = strconv.AppendInt(line, int64(n), 10)
		}
		line = append(line, 0)
		line = append(line, t.SHA256...)
		line = append(line, '\n')
		h.Write(line)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sortTensors(t []TensorDigest) {
	sort.Slice(t, func(i, j int) bool { return t[i].Name < t[j].Name })
}

// Encode returns the bytes of manifest.json and those of manifest.sha256. It
// sorts Files and Tensors and sets Schema and ContentHash. It is an error if [ParseManifest]
// would refuse the result.
func (m *Manifest) Encode() (manifest, digest []byte, err error) {
	m.Schema = ManifestSchema
	sortTensors(m.Tensors)
	sort.Slice(m.Files, func(i, j int) bool { return m.Files[i].Name < m.Files[j].Name })
	m.ContentHash = ContentHash(m.Tensors)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(m); err != nil {
		return nil, nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	if _, err := ParseManifest(ManifestFile, b.Bytes()); err != nil {
		return nil, nil, fmt.Errorf("encoding the manifest: %v", err)
	}
	return b.Bytes(), ManifestDigest(b.Bytes()), nil
}

// ManifestDigest returns the content of manifest.sha256 for these bytes of manifest.json: the
// SHA-256 in lower-case hex and a line feed.
func ManifestDigest(manifest []byte) []byte {
	sum := sha256.Sum256(manifest)
	return append(hex.AppendEncode(nil, sum[:]), '\n')
}

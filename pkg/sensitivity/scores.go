package sensitivity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// ScoresSchema is the version of scores.json that this package reads and writes.
const ScoresSchema = "afmq.scores/v1"

// Scores are the estimated losses of a model if one module is quantized, for every module
// and width, with all that a plan needs to know of the model: a plan is made without the
// checkpoint.
type Scores struct {
	Schema      string                      `json:"schema"`
	ToolVersion string                      `json:"tool_version"`
	Method      Method                      `json:"method"`
	Unit        string                      `json:"unit"`            // of a score; "nats per token" for kl and fisher
	Bits        []int                       `json:"bits,omitempty"`  // scored widths of palettes, ascending
	Forms       []artifact.Form             `json:"forms,omitempty"` // scored forms of another grid, by size; then there are no Bits
	GroupRows   int                         `json:"group_rows"`
	RowScale    bool                        `json:"row_scale"`
	Compute     string                      `json:"compute,omitempty"` // arithmetic of the model's matrix products
	Samples     int                         `json:"samples,omitempty"` // labels drawn per token; fisher only
	Calibration *artifact.CalibrationRecord `json:"calibration"`       // null for a method without text
	Modules     []ModuleScore               `json:"modules"`           // all projections, in canonical order
	// Ends are embedding and head, where they were scored, for budgets of the whole model.
	Ends       []EndScore   `json:"ends,omitempty"`
	Validation *Validation  `json:"validation"` // null unless requested
	Config     string       `json:"config"`     // content of the model's config.json
	Tensors    []TensorInfo `json:"tensors"`    // of the checkpoint, in canonical order
}

// ModuleScore holds the scores of one module.
type ModuleScore struct {
	Name  string    `json:"name"`
	Shape []int     `json:"shape"` // [out, in]
	Costs []float64 `json:"costs"` // in the order of Scores.Bits or Scores.Forms
}

// TensorInfo is the type and shape of a tensor of the checkpoint.
type TensorInfo struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
}

// Validation compares the scores with the measured divergence of some modules.
type Validation struct {
	Modules []ValidatedModule `json:"modules"`
	ByBits  []ValidatedBits   `json:"by_bits"`
	// Ends are embedding and head, where they were scored; Measured is in the order of their Bits.
	Ends []ValidatedModule `json:"ends,omitempty"`
}

// ValidatedModule is the measured divergence of one module.
type ValidatedModule struct {
	Name     string    `json:"name"`
	Measured []float64 `json:"measured"` // like the scores, in nats per token
}

// ValidatedBits compares scores and measurements at one width.
type ValidatedBits struct {
	Bits int `json:"bits"` // of an index or a code
	// Form is the form of the modules on a grid that is no palette; where their columns do not allow
	// that, they have the next one.
	Form     artifact.Form `json:"form,omitempty"`
	Spearman float64       `json:"spearman"` // rank correlation over the modules
	// Ratio is the sum of the scores divided by the sum of the measurements; 0 for a method
	// whose scores are not divergences.
	Ratio float64 `json:"ratio,omitempty"`
}

// Encode returns the content of scores.json.
func (s *Scores) Encode() ([]byte, error) { return encode(s) }

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// maxFile is the largest JSON file that is read. Scores of ten thousand modules have about
// 10 MB.
const maxFile = 64 << 20

// decode parses one JSON value and rejects unknown keys.
func decode(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	if err := infile.CheckJSON(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// ReadScores reads and checks scores.json. Errors are fault.Input.
func ReadScores(path string) (*Scores, error) {
	data, err := infile.Read(path, maxFile)
	if err != nil {
		var f *fault.Error
		if _, model := os.Stat(filepath.Join(path, artifact.ConfigFile)); model == nil && errors.As(err, &f) {
			return nil, f.WithHint("`afmq sensitivity %s --calib FILE --out scores.json` makes a file of scores", path)
		}
		return nil, err
	}
	return ParseScores(path, data)
}

// ParseScores is ReadScores of bytes; file is the name in errors.
func ParseScores(file string, data []byte) (*Scores, error) {
	if err := otherKind(file, data, ScoresSchema, "a file of scores"); err != nil {
		return nil, err
	}
	s := &Scores{}
	if err := decode(data, s); err != nil {
		return nil, fault.Inputf(file, "is not a file of scores: %v", err)
	}
	if s.Schema != ScoresSchema {
		return nil, fault.Inputf(file, "has schema %q; this version reads %q", s.Schema, ScoresSchema)
	}
	if _, err := s.check(file); err != nil {
		return nil, err
	}
	return s, nil
}

// Shape returns the shape of the model that was scored. Scores that [Score] or [ReadScores]
// returned give no error.
func (s *Scores) Shape() (*Shape, error) { return s.check("scores") }

func (s *Scores) storage() Storage { return Storage{s.GroupRows, s.RowScale} }

// check checks everything but the schema, and returns the model's shape.
func (s *Scores) check(file string) (*Shape, error) {
	bad := func(format string, args ...any) (*Shape, error) {
		return nil, fault.Inputf(file, format, args...)
	}
	if _, err := ParseMethod(string(s.Method)); err != nil {
		return bad("has the unknown method %q", s.Method)
	}
	if err := checkOptions(s.Bits, s.Forms); err != nil {
		return bad("%v", err)
	}
	if s.GroupRows < 1 || s.GroupRows > maxGroupRows {
		return bad("group_rows is %d", s.GroupRows)
	}
	cfg, err := model.ParseConfig(file, []byte(s.Config))
	if err != nil {
		return nil, err
	}
	shape := &Shape{Config: cfg, DTypes: map[string]safetensors.DType{}}
	specs := cfg.Tensors()
	if len(s.Tensors) != len(specs) {
		return bad("lists %d tensors; its config has %d", len(s.Tensors), len(specs))
	}
	var modules []model.TensorSpec
	for i, spec := range specs {
		t := s.Tensors[i]
		dtype, ok := parseDType(t.DType)
		if t.Name != spec.Name || !slices.Equal(t.Shape, spec.Shape) || !ok {
			return bad("tensor %q is %s %v; its config has %q %v of F16, BF16 or F32", t.Name, t.DType, t.Shape, spec.Name, spec.Shape)
		}
		shape.DTypes[spec.Name] = dtype
		if spec.Role == model.Projection {
			modules = append(modules, spec)
		}
	}
	if len(s.Modules) != len(modules) {
		return bad("scores %d modules; its config has %d projections", len(s.Modules), len(modules))
	}
	for i, spec := range modules {
		m := s.Modules[i]
		if m.Name != spec.Module() || !slices.Equal(m.Shape, spec.Shape) {
			return bad("module %d is %q %v; its config has %q %v", i+1, m.Name, m.Shape, spec.Module(), spec.Shape)
		}
		if err := checkCosts(file, m.Name, m.Costs, len(s.Widths())); err != nil {
			return nil, err
		}
	}
	return shape, s.checkEnds(file, cfg)
}

// checkCosts checks the costs of a module.
func checkCosts(file, name string, costs []float64, widths int) error {
	if len(costs) != widths {
		return fault.Inputf(file, "module %q has %d costs for %d widths", name, len(costs), widths)
	}
	for _, c := range costs {
		if math.IsNaN(c) || math.IsInf(c, 0) {
			return fault.Inputf(file, "module %q has a cost of %v", name, c)
		}
	}
	return nil
}

// Widths returns the scored widths, in the order of the costs.
func (s *Scores) Widths() []Width { return optionWidths(s.Bits, s.Forms) }

// checkOptions checks that there are either widths of palettes or forms of another grid, in their
// order.
func checkOptions(bits []int, forms []artifact.Form) error {
	if len(forms) == 0 {
		if err := checkBits(bits); err != nil {
			return fmt.Errorf("bits: %w", err)
		}
		return nil
	}
	if len(bits) > 0 {
		return errors.New("there are bits of palettes and forms")
	}
	sorted, err := sortForms(forms)
	if err == nil && !slices.Equal(sorted, forms) {
		err = fmt.Errorf("%v are not in the order %v", forms, sorted)
	}
	if err != nil {
		return fmt.Errorf("forms: %w", err)
	}
	return nil
}

// maxGroupRows exceeds the rows of every matrix of a supported model.
const maxGroupRows = 1 << 20

// checkBits returns an error unless the widths are strictly ascending and within 1 to 8.
func checkBits(bits []int) error {
	if len(bits) == 0 {
		return fmt.Errorf("no widths")
	}
	for i, b := range bits {
		if b < 1 || b > 8 {
			return fmt.Errorf("width %d is outside 1 to 8 bits", b)
		}
		if i > 0 && bits[i-1] >= b {
			return fmt.Errorf("the widths %v are not strictly ascending", bits)
		}
	}
	return nil
}

func parseDType(s string) (safetensors.DType, bool) {
	for _, t := range []safetensors.DType{safetensors.F16, safetensors.BF16, safetensors.F32} {
		if t.String() == s {
			return t, true
		}
	}
	return 0, false
}

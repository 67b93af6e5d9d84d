package report

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"unicode/utf8"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// evalSchema is the supported version of an evaluation.
const evalSchema = "afmq.eval/v1"

const maxEvalBytes = 4 << 20

// evalFile has the keys of `afmq eval-perplexity --json` that a report uses. Unknown keys are
// ignored, because a version may gain keys.
type evalFile struct {
	file   string
	Schema string `json:"schema"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
	Model   string `json:"model"`
	Data    string `json:"data"`
	Compute string `json:"compute"`
	// ReferenceCompute is nil without a reference.
	ReferenceCompute *string `json:"reference_compute"`
	*eval.Result
	Adapters []evalAdapter `json:"adapters"`
}

type evalAdapter struct {
	Name string `json:"name"`
	*eval.Result
}

// Setting is what evaluations must have in common to be comparable.
type Setting struct {
	Data     string `json:"data"`
	Protocol string `json:"protocol"`
	Ctx      int    `json:"ctx"`
	Stride   int    `json:"stride,omitempty"`
	Compute  string `json:"compute"`
}

// evalGroup has the evaluations of one setting, in the order of the command line.
type evalGroup struct {
	setting Setting
	rows    []EvalRow
	first   string // the file of the first row, for errors
}

// EvalRow is the evaluation of one model, with or without an adapter.
type EvalRow struct {
	File        string       `json:"file"`
	Name        string       `json:"name"`
	Adapter     string       `json:"adapter,omitempty"`
	This        bool         `json:"this"`   // the artifact that the report is about
	Source      bool         `json:"source"` // the checkpoint that it was made from
	Projections float64      `json:"bpw_projections"`
	Recipe      string       `json:"recipe"` // options of quantization, without the bits
	Evaluation  *eval.Result `json:"evaluation"`
}

// readEvals reads evaluations and groups them by setting. Each must belong to this artifact, to
// another artifact of the same checkpoint, or to that checkpoint.
func readEvals(ctx context.Context, pool *compute.Pool, art *opened, files []string) ([]evalGroup, error) {
	var groups []evalGroup
	seen := map[string]string{}
	placer := placer{ctx: ctx, pool: pool, art: art, known: map[string]*place{}}
	for _, file := range files {
		e, err := readEval(file)
		if err != nil {
			return nil, err
		}
		p, err := placer.find(e)
		if err != nil {
			return nil, err
		}
		set := Setting{show(filepath.Clean(e.Data)), string(e.Protocol), e.Ctx, e.Stride, show(e.Compute)}
		if r := e.ReferenceCompute; r != nil && *r != e.Compute {
			set.Compute += ", the reference in " + show(*r)
		}
		at := -1
		for i := range groups {
			if groups[i].setting == set {
				at = i
			}
		}
		if at < 0 {
			at = len(groups)
			groups = append(groups, evalGroup{setting: set, first: file})
		}
		g := &groups[at]
		for _, row := range e.rows(p) {
			key := fmt.Sprintf("%d\x00%s\x00%s", at, p.id, row.Adapter)
			if other, twice := seen[key]; twice {
				return nil, fault.Inputf(file, "duplicates %s: the same model on the same text", show(other))
			}
			seen[key] = file
			if err := g.check(row); err != nil {
				return nil, err
			}
			g.rows = append(g.rows, row)
		}
	}
	return groups, nil
}

func readEval(file string) (*evalFile, error) {
	data, err := infile.ReadBounded(file, maxEvalBytes)
	if err != nil {
		return nil, err
	}
	return parseEval(file, data)
}

// parseEval parses and checks an evaluation. Errors are of kind fault.Input and name file.
func parseEval(file string, data []byte) (*evalFile, error) {
	bad := func(format string, args ...any) (*evalFile, error) {
		return nil, fault.Inputf(file, "is not an evaluation: "+format, args...)
	}
	if !utf8.Valid(data) {
		return bad("not valid UTF-8")
	}
	if err := infile.CheckJSON(data); err != nil {
		return bad("%v", err)
	}
	e := &evalFile{file: file}
	if err := json.Unmarshal(data, e); err != nil {
		return bad("%v", err)
	}
	if e.Error != nil {
		return bad("the command failed: %.200q", e.Error.Message)
	}
	if e.Schema != evalSchema {
		return bad("schema is %.80q; this version reads %q", e.Schema, evalSchema)
	}
	if e.Model == "" || e.Data == "" {
		return bad("model or data is missing")
	}
	if e.Compute == "" {
		e.Compute = "f32"
	}
	if err := checkEvaluation(e.Result); err != nil {
		return bad("%v", err)
	}
	for _, a := range e.Adapters {
		if err := checkEvaluation(a.Result); err != nil {
			return bad("adapter %.80q: %v", a.Name, err)
		}
		if a.Protocol != e.Protocol || a.Ctx != e.Ctx || a.Stride != e.Stride || a.Tokens != e.Tokens || a.Name == "" {
			return bad("adapter %.80q was evaluated in another setting", a.Name)
		}
	}
	return e, nil
}

// checkEvaluation refuses figures that are impossible or contradict each other.
func checkEvaluation(e *eval.Result) error {
	if e == nil {
		return fmt.Errorf("it has no figures")
	}
	if _, err := eval.ParseProtocol(string(e.Protocol)); err != nil {
		return fmt.Errorf("protocol %.80q is unknown", string(e.Protocol))
	}
	if e.Ctx < 1 || e.Stride < 0 || e.Tokens < 1 {
		return fmt.Errorf("ctx %d, stride %d, %d tokens", e.Ctx, e.Stride, e.Tokens)
	}
	if !(e.Perplexity >= 1) || !near(math.Exp(e.NatsPerToken), e.Perplexity) || !(e.PerplexitySE >= 0) || !(e.BitsPerByte >= 0) {
		return fmt.Errorf("a perplexity of %v ± %v from %v nats per token is impossible", e.Perplexity, e.PerplexitySE, e.NatsPerToken)
	}
	c := e.Comparison
	if c == nil {
		return nil
	}
	k := c.KL
	if !(k.Mean >= 0 && k.Median >= 0 && k.Median <= k.P99 && k.P99 <= k.P999 && k.P999 <= k.Max && k.Mean <= k.Max) {
		return fmt.Errorf("a divergence of %v on average, %v, %v, %v and %v at most is impossible", k.Mean, k.Median, k.P99, k.P999, k.Max)
	}
	if !(c.ReferencePerplexity >= 1) || !near(c.PerplexityRatio*c.ReferencePerplexity, e.Perplexity) {
		return fmt.Errorf("a perplexity of %v is not %v times the reference's %v", e.Perplexity, c.PerplexityRatio, c.ReferencePerplexity)
	}
	if !(c.SameTop1 >= 0 && c.SameTop1 <= 1) || !(c.DeltaPRMS >= 0 && c.DeltaPRMS <= 1) {
		return fmt.Errorf("shares of %v and %v are impossible", c.SameTop1, c.DeltaPRMS)
	}
	return nil
}

// near reports whether two figures agree up to rounding.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Max(math.Abs(a), math.Abs(b)) }

// check refuses a row whose text has the same name as that of the other rows but differs from it, or
// whose reference differs.
func (g *evalGroup) check(row EvalRow) error {
	for _, other := range g.rows {
		a, b := row.Evaluation, other.Evaluation
		if a.Tokens != b.Tokens {
			return fault.Inputf(row.File, "scored %d tokens of %s, %s scored %d: not the same text", a.Tokens, g.setting.Data, show(other.File), b.Tokens)
		}
		if a.Comparison != nil && b.Comparison != nil && math.Abs(a.ReferencePerplexity/b.ReferencePerplexity-1) > 1e-5 {
			return fault.Inputf(row.File, "has a reference with perplexity %.6f, %s one with %.6f: not the same text or not the same reference", a.ReferencePerplexity, show(other.File), b.ReferencePerplexity)
		}
	}
	return nil
}

// place is the model of an evaluation.
type place struct {
	id          string // its content hash, or "source"
	name        string
	this        bool
	source      bool
	projections float64
	recipe      string
}

// placer finds the models of evaluations.
type placer struct {
	ctx   context.Context
	pool  *compute.Pool
	art   *opened
	known map[string]*place // by path
}

// find returns the model of an evaluation. Its path is resolved relative to the current directory,
// then to the directory of the evaluation.
func (p *placer) find(e *evalFile) (*place, error) {
	dir := e.Model
	if _, err := os.Stat(dir); err != nil && !filepath.IsAbs(dir) {
		dir = filepath.Join(filepath.Dir(e.file), e.Model)
	}
	if at, ok := p.known[dir]; ok {
		return at, nil
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fault.Inputf(e.file, "evaluates the model %.200q, which does not exist", e.Model).
			WithHint("run `afmq report` in the directory where eval-perplexity ran")
	}
	at, err := p.read(e, dir)
	if err != nil {
		return nil, err
	}
	p.known[dir] = at
	return at, nil
}

func (p *placer) read(e *evalFile, dir string) (*place, error) {
	name := nameOf(dir)
	if !artifact.IsArtifact(dir) {
		if err := p.art.manifest.IsSource(p.ctx, p.pool, dir, nil); err != nil {
			if p.ctx.Err() != nil {
				return nil, p.ctx.Err()
			}
			return nil, fault.Inputf(e.file, "evaluates the model %.200q, which is neither an artifact nor the source of %s: %v", e.Model, show(p.art.dir), err)
		}
		bits := 0.0
		if n := p.art.params; n > 0 {
			bits = 8 * float64(p.art.source) / float64(n)
		}
		return &place{id: "source", name: name, source: true, projections: bits, recipe: "source"}, nil
	}
	m, err := artifact.ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	if m.Source.Digest != p.art.manifest.Source.Digest {
		return nil, fault.Inputf(e.file, "evaluates %.200q, an artifact of another model than %s", e.Model, show(p.art.dir))
	}
	at := &place{id: m.ContentHash, name: name, this: m.ContentHash == p.art.manifest.ContentHash, projections: m.BPW.Projections, recipe: recipe(m)}
	return at, nil
}

// recipe describes the options of an artifact's quantization, without the bits.
func recipe(m *artifact.Manifest) string {
	out := "not compensated"
	if m.Plan.Compensation != "none" {
		out = "compensated"
	}
	if !m.Plan.RowScale {
		out += ", no row scales"
	}
	return out
}

// rows returns the figures of the model and of each adapter.
func (e *evalFile) rows(p *place) []EvalRow {
	row := EvalRow{File: e.file, Name: p.name, This: p.this, Source: p.source, Projections: p.projections, Recipe: p.recipe, Evaluation: e.Result}
	out := []EvalRow{row}
	for _, a := range e.Adapters {
		row.Adapter, row.Evaluation = show(a.Name), a.Result
		out = append(out, row)
	}
	return out
}

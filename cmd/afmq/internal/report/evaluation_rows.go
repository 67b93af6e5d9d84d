package report

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/fault"
)

// Setting is what evaluations must have in common to be comparable.
type Setting struct {
	Data       string `json:"data"`        // path of the text in the first evaluation of the group
	DataSHA256 string `json:"data_sha256"` // of the text's file
	Protocol   string `json:"protocol"`
	Ctx        int    `json:"ctx"`
	Stride     int    `json:"stride,omitempty"`
	Compute    string `json:"compute"`
}

// same reports whether figures of both settings can be compared. The content of the text counts,
// not its path.
func (s Setting) same(o Setting) bool {
	s.Data, o.Data = "", ""
	return s == o
}

// evalGroup has the evaluations of one setting, in the order of the command line.
type evalGroup struct {
	setting Setting
	rows    []EvalRow
}

// EvalRow is the evaluation of one model, with or without an adapter.
type EvalRow struct {
	File        string  `json:"file"`
	Name        string  `json:"name"`
	Adapter     string  `json:"adapter,omitempty"`
	Rank        int     `json:"rank,omitempty"` // of the adapter
	This        bool    `json:"this"`           // the artifact that the report is about
	Source      bool    `json:"source"`         // the checkpoint that it was made from
	Bytes       int64   `json:"bytes"`          // of the safetensors files, with that of the adapter; of the source, of its tensors
	Projections float64 `json:"bpw_projections"`
	Model       float64 `json:"bpw_model"` // over the whole model, with the tensors of the adapter
	Recipe      string  `json:"recipe"`    // options of quantization, without the bits
	// Overlap says what the text has in common with text that the model was fitted to; empty for
	// nothing. Such a row is shown, and no summary uses it.
	Overlap    string       `json:"overlap,omitempty"`
	Unbound    bool         `json:"unbound,omitempty"` // the adapter does not name the artifact that it was trained on
	Verified   bool         `json:"verified"`          // the weights were compared with the digest
	Evaluation *eval.Result `json:"evaluation"`
	intervals

	digest string // of the model
	sha256 string // of the adapter; empty without one
	family string // what artifacts that a line joins have in common
}

// readEvals reads evaluations and groups them by setting. Each must be of this artifact, of another
// artifact of the same checkpoint, or of that checkpoint; content decides, not paths.
func (s *sources) readEvals() error {
	seen := map[string]string{}
	for _, file := range s.opts.Evals {
		e, err := readEval(file)
		if err != nil {
			return err
		}
		if err := s.art.owns(e); err != nil {
			return err
		}
		s.evalFiles = append(s.evalFiles, e)
		g, at := s.group(e.setting())
		for _, row := range e.rows(s.art) {
			key := fmt.Sprintf("%d %s %s", at, row.digest, row.sha256)
			if other, twice := seen[key]; twice {
				return fault.Inputf(file, "duplicates %s: the same model on the same text", show(other))
			}
			seen[key] = file
			if err := g.check(row); err != nil {
				return err
			}
			g.rows = append(g.rows, row)
		}
	}
	for _, g := range s.evals {
		distinguish(g.rows)
	}
	return nil
}

// group returns the group of a setting and its index. It makes a group for a new setting.
func (s *sources) group(set Setting) (*evalGroup, int) {
	at := slices.IndexFunc(s.evals, func(g *evalGroup) bool { return g.setting.same(set) })
	if at < 0 {
		at = len(s.evals)
		s.evals = append(s.evals, &evalGroup{setting: set})
	}
	return s.evals[at], at
}

func (e *evalFile) setting() Setting {
	set := Setting{show(filepath.Clean(e.Data)), e.Identity.Data, string(e.Protocol), e.Ctx, e.Stride, show(e.Compute)}
	if r := e.ReferenceCompute; r != nil && *r != e.Compute {
		set.Compute += ", the reference in " + show(*r)
	}
	return set
}

// owns refuses an evaluation that has nothing to do with the artifact: of a model of another
// checkpoint, with another tokenizer, or against another reference.
func (a *opened) owns(e *evalFile) error {
	id, source, this := e.Identity, a.manifest.Source.Digest, show(a.dir)
	switch m := id.Model; {
	case m.Kind == "checkpoint" && m.Digest != source:
		return fault.Inputf(e.file, "evaluates %.200q, which is not the checkpoint that %s was made from: its digest is %.16s…, not %.16s…", e.Model, this, m.Digest, source)
	case m.Source != source:
		return fault.Inputf(e.file, "evaluates %.200q, an artifact of another checkpoint than %s: the digest of its source is %.16s…, not %.16s…", e.Model, this, m.Source, source)
	case id.Tokenizer != a.manifest.Tokenizer:
		return fault.Inputf(e.file, "evaluates %.200q, whose tokenizer.json differs from that of %s", e.Model, this)
	case id.Reference != nil && *id.Reference != source:
		return fault.Inputf(e.file, "compares %.200q with another reference than the checkpoint that %s was made from: its digest is %.16s…, not %.16s…", e.Model, this, *id.Reference, source).
			WithHint("evaluate with that checkpoint as --reference")
	case id.Model.Digest == a.manifest.ContentHash && a.manifest.FittedText() != nil && e.Overlap == nil:
		return fault.Inputf(e.file, "does not say how its text overlaps with the text that %s was fitted to", this)
	}
	return nil
}

// rows returns the figures of the model and of each adapter.
func (e *evalFile) rows(a *opened) []EvalRow {
	m := &e.Identity.Model
	row := EvalRow{
		File: e.file, Name: nameOf(e.Model), This: m.Digest == a.manifest.ContentHash, Source: m.Kind == "checkpoint",
		Bytes: m.Bytes, Verified: m.Verified, Evaluation: e.Result, intervals: e.intervals, digest: m.Digest,
	}
	recipe := m.Recipe
	switch {
	case row.Source: // its size is that of the summary: without the headers of its files
		row.Bytes = a.source
		row.Recipe, row.Model = "source", 8*float64(a.source)/math.Max(float64(a.params), 1)
		row.Projections = row.Model
	case row.This: // the artifact itself is more to be trusted than the file
		row.Name, row.Bytes, recipe = nameOf(a.dir), a.manifest.Ledger.Total, eval.NewRecipe(a.manifest)
	}
	if recipe != nil {
		row.Recipe, row.family = describeRecipe(recipe), family(recipe)
		row.Projections, row.Model = recipe.BPW.Projections, recipe.BPW.Model
		switch {
		case row.This:
			row.Overlap = a.overlap(e.Overlap, e.Identity.Data)
		case e.Overlap != nil:
			row.Overlap = describeOverlap(e.Overlap, "calibration", row.Name)
		}
	}
	out := []EvalRow{row}
	for _, ad := range e.Adapters {
		with, id := row, ad.Identity
		with.Adapter, with.Rank, with.Evaluation, with.intervals, with.sha256, with.Unbound = show(ad.Name), id.Rank, ad.Result, ad.intervals, id.SHA256, !id.Bound
		with.Bytes += id.Bytes
		with.Model += 8 * float64(id.TensorBytes) / math.Max(float64(a.params), 1)
		trained := describeOverlap(&id.Overlap, "training", "adapter "+with.Adapter)
		with.Overlap = strings.Join(slices.DeleteFunc([]string{row.Overlap, trained}, func(s string) bool { return s == "" }), "; ")
		out = append(out, with)
	}
	return out
}

// overlap describes what a text, given the digest of its file, has in common with text that this
// artifact was fitted to. stated is what the evaluation says about its calibration text, nil for
// nothing; the manifest and the scores are asked too.
func (a *opened) overlap(stated *eval.Overlap, data string) string {
	o := eval.Overlap{}
	if stated != nil {
		o = *stated
	}
	if c := a.manifest.FittedText(); c != nil && c.UsedFile(data) {
		o.SameFile = true
	}
	use := "calibration"
	if len(a.manifest.Tuning) > 0 {
		use = "calibration or tuning"
	}
	if text := describeOverlap(&o, use, nameOf(a.dir)); text != "" {
		return text
	}
	if c := a.scored; c != nil && c.UsedFile(data) {
		return "the bits were chosen by scores on the text"
	}
	return ""
}

// describeOverlap returns an empty text for no overlap.
func describeOverlap(o *eval.Overlap, use, name string) string {
	switch {
	case o.SameFile:
		return fmt.Sprintf("the text is a %s file of %s", use, name)
	case o.Passages > 0:
		return fmt.Sprintf("the text shares %d of %d passages with the %s text of %s", o.Passages, o.Of, use, name)
	}
	return ""
}

// describeRecipe describes the options of an artifact's quantization, without the bits.
func describeRecipe(r *eval.Recipe) string {
	out := "one width"
	if len(r.Widths) > 1 || len(r.Forms) > 1 {
		out = "mixed widths"
	}
	if r.Compensation != artifact.NoCompensation {
		out += ", compensated"
	} else {
		out += ", not compensated"
	}
	switch {
	case r.Grid != "":
		out += ", grid " + show(r.Grid)
	case !r.RowScale:
		out += ", no row scales"
	}
	if r.Tuned {
		out += ", tuned"
	}
	return out
}

// family is what the artifacts of one curve have in common: everything but the bits. Artifacts
// that were calibrated on different text are of different families.
func family(r *eval.Recipe) string {
	calibration := ""
	if r.Calibration != nil {
		calibration = *r.Calibration
	}
	return fmt.Sprintf("%s %d %s", describeRecipe(r), r.GroupRows, calibration)
}

// distinguish appends the first digits of the digest to the names of different models that have
// the same name; this artifact keeps its name.
func distinguish(rows []EvalRow) {
	digests := map[string]map[string]bool{}
	for _, r := range rows {
		if digests[r.Name] == nil {
			digests[r.Name] = map[string]bool{}
		}
		digests[r.Name][r.digest] = true
	}
	for i := range rows {
		if !rows[i].This && len(digests[rows[i].Name]) > 1 {
			rows[i].Name += " (" + rows[i].digest[:8] + ")"
		}
	}
}

// near reports whether two figures agree up to rounding.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Max(math.Abs(a), math.Abs(b)) }

// check refuses a row whose number of tokens or reference contradicts that of the other rows on
// the same text.
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

package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/eval"
	"afmq/pkg/grid"
	"afmq/pkg/palettize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

// Commands are the commands that made the artifact and the inputs of the report, reconstructed from
// what the manifest, the plan, the scores, the recovery records, the evaluations and the gates
// record. They hold nothing else. A file whose path none of them records has a name in capitals.
type Commands struct {
	Steps []Step        `json:"steps"` // in the order in which they run
	Names []Placeholder `json:"names"` // of the files in capitals
}

// Step is one command.
type Step struct {
	Command string `json:"command"` // in one line
	From    string `json:"from"`    // what records its options

	line *commandLine
}

// Lines is the command in lines that fit a page, joined by backslashes.
func (s Step) Lines() string { return s.line.wrapped(commandWidth) }

// commandWidth is the length of a line, in characters.
const commandWidth = 88

// Placeholder is a name in capitals and what it stands for.
type Placeholder struct {
	Name   string `json:"name"`
	What   string `json:"what"`
	SHA256 string `json:"sha256,omitempty"`
}

// commander writes the commands.
type commander struct {
	*sources
	out   *Commands
	paths map[string]string // path or placeholder by digest
	used  map[string]int    // placeholders by their first word
}

func (s *sources) commands() (any, error) {
	c := &commander{sources: s, out: &Commands{Steps: []Step{}, Names: []Placeholder{}}, paths: map[string]string{}, used: map[string]int{}}
	c.learnPaths()
	c.sensitivity()
	c.makePlan()
	c.quantize()
	c.tune()
	for _, r := range s.runs {
		if err := c.recover(r); err != nil {
			return nil, err
		}
	}
	for _, e := range s.evalFiles {
		c.evaluate(e)
	}
	for _, g := range s.gates {
		c.judge(g)
	}
	c.compare()
	c.report()
	return c.out, nil
}

func (c *commander) step(from string, l *commandLine) {
	c.out.Steps = append(c.out.Steps, Step{l.String(), from, l})
}

// learnPaths collects the paths that the inputs record for a digest.
func (c *commander) learnPaths() {
	if ref := c.opts.Reference; ref != "" {
		c.paths[c.art.manifest.Source.Digest] = ref
	}
	learn := func(digest, path string) {
		if _, known := c.paths[digest]; !known && path != "" {
			c.paths[digest] = path
		}
	}
	for _, e := range c.evalFiles {
		if id := e.Identity; id.Reference != nil && e.Reference != nil {
			learn(*id.Reference, *e.Reference)
		}
		if e.Identity.Model.Kind == "checkpoint" {
			learn(e.Identity.Model.Digest, e.Model)
		}
		learn(e.Identity.Data, e.Data)
	}
	for _, g := range c.gates {
		if r := g.Setting.Reference; r != nil {
			learn(*r, g.Reference)
		}
		learn(g.Setting.Data, g.Data)
	}
}

// file returns the path of the file or checkpoint with a digest, or a name in capitals with an
// extension.
func (c *commander) file(name, extension, what, digest string) string {
	key := digest
	if key == "" {
		key = name
	}
	if path, known := c.paths[key]; known {
		return path
	}
	c.used[name]++
	if n := c.used[name]; n > 1 {
		name = fmt.Sprintf("%s%d", name, n)
	}
	name += extension
	if !infile.IsSHA256(digest) { // the job of a recovery can hold anything
		digest = ""
	}
	c.paths[key] = name
	c.out.Names = append(c.out.Names, Placeholder{name, show(what), digest})
	return name
}

func (c *commander) model() string {
	return c.file("MODEL", "", "the checkpoint that the artifact was made from; the digest is the source digest of its manifest", c.art.manifest.Source.Digest)
}

// calibration adds the flags of a calibration, nil for none.
func (c *commander) calibration(l *commandLine, r *artifact.CalibrationRecord) {
	if r == nil {
		return
	}
	for _, f := range r.Files {
		if f == r.Builtin {
			l.flag("calib", sensitivity.BuiltinText)
			continue
		}
		path := c.file("CALIB", "", "calibration text", f)
		if path == sensitivity.BuiltinText { // a file of that name
			path = "./" + path
		}
		l.path("calib", path)
	}
	l.flag("tokens", r.Tokens).flag("seq-len", r.SeqLen).flagIf("seed", r.Seed, int64(0))
}

func (c *commander) sensitivity() {
	s := c.scores
	if s == nil {
		return
	}
	l := newCommand("sensitivity", c.model()).flag("method", s.Method)
	c.calibration(l, s.Calibration)
	if len(s.Forms) > 0 {
		formFlags(l, s.Forms)
	} else {
		l.flag("bits", joinInts(s.Bits)).flagIf("group-rows", s.GroupRows, palettize.DefaultGroupRows).on("row-scale=false", !s.RowScale)
	}
	l.on("embedding", len(s.Ends) > 0)
	if s.Samples > 1 {
		l.flag("samples", s.Samples)
	}
	if s.Validation != nil {
		l.flag("validate", len(s.Validation.Modules))
	}
	if s.Compute != "" {
		l.flagIf("compute", s.Compute, "f32")
	}
	c.step("scores", l.path("out", c.opts.Scores))
}

// formFlags writes the flags that choose forms of one grid.
func formFlags(l *commandLine, forms []artifact.Form) {
	var bits, types []string
	var first grid.Grid
	for _, f := range forms {
		g, ok := f.Grid(safetensors.F16)
		if !ok {
			continue
		}
		if first == nil {
			first = g
			l.flag("grid", grid.Family(g))
		}
		bits, types = append(bits, strconv.Itoa(g.CodeBits())), append(types, string(f))
	}
	switch g := first.(type) {
	case grid.Block:
		l.flag("types", strings.Join(types, ","))
	case grid.Affine:
		l.flag("bits", strings.Join(bits, ",")).flag("group", g.Group)
	case grid.Integer:
		l.flag("bits", strings.Join(bits, ",")).flag("group", g.Group).on("zero-point", g.ZeroPoint)
	}
}

// makePlan writes the command of a plan, unless it was written by hand.
func (c *commander) makePlan() {
	p := c.plan
	if p == nil || p.Method == "" {
		return
	}
	scores := c.opts.Scores
	if scores == "" || !planned(p, c.scores) {
		scores = c.file("SCORES", ".json", fmt.Sprintf("the scores by method %s, from afmq sensitivity", p.Method), "")
	}
	l := newCommand("plan", scores)
	if p.Target != nil {
		budget(l, p.Target.BPW, p.Target.MaxBytes, string(p.Target.Of))
	}
	if len(p.Bits) > 0 {
		l.flag("bits", joinInts(p.Bits))
	}
	var ties []string
	for _, t := range p.Tie {
		ties = append(ties, string(t))
	}
	choice(l, ties, p.Overrides)
	l.flagIf("target", p.ExportTarget, "").flagIf("seed", p.Seed, int64(0))
	c.step("plan", l.path("out", c.opts.Plan))
}

// planned reports whether a plan was made from these scores: by the same method, with their cost of
// every module.
func planned(p *sensitivity.Plan, s *sensitivity.Scores) bool {
	costs := map[string][]float64{}
	for _, m := range s.Modules {
		costs[m.Name] = m.Costs
	}
	for _, e := range s.Ends {
		costs[e.Name] = e.Costs
	}
	ends := len(s.Modules)
	for i, l := range p.Layers {
		if l.Form != "" || i >= ends {
			if l.Cost != 0 && !slices.Contains(costs[l.Name], l.Cost) {
				return false
			}
			continue
		}
		k := slices.Index(s.Bits, l.Bits)
		if k >= 0 && l.Cost != 0 && (k >= len(costs[l.Name]) || costs[l.Name][k] != l.Cost) {
			return false
		}
	}
	return p.Method == s.Method
}

func budget(l *commandLine, bpw float64, maxBytes int64, of string) {
	if bpw > 0 {
		l.flag("bpw", bpw)
	}
	if maxBytes > 0 {
		l.flag("max-bytes", maxBytes)
	}
	if of != "" {
		l.flag("bpw-of", of)
	}
}

func choice(l *commandLine, ties, overrides []string) {
	if len(ties) > 0 {
		l.flag("tie", strings.Join(ties, ","))
	}
	for _, o := range overrides {
		l.flag("override", o)
	}
}

func (c *commander) quantize() {
	m := c.art.manifest
	out := c.opts.Artifact
	if len(m.Tuning) > 0 {
		out = c.untuned(0)
	}
	l := newCommand("quantize", c.model()).path("out", out)
	by := m.Plan.Choice
	if by == nil { // a manifest of a former version
		by = &artifact.ChoiceRecord{By: artifact.ByPlan}
		if widths := eval.NewRecipe(m).Widths; c.plan == nil && len(widths) == 1 && widths[0] == m.Plan.Bits {
			by.By = artifact.ByBits
		}
	}
	switch by.By {
	case artifact.ByTarget:
		budget(l, by.BPW, by.MaxBytes, by.Of)
		if len(by.Forms) > 0 {
			formFlags(l, by.Forms)
		} else {
			l.flag("bits", joinInts(by.Widths))
		}
		l.flag("method", by.Method)
		choice(l, by.Tie, by.Overrides)
	case artifact.ByBits:
		if len(by.Forms) > 0 {
			formFlags(l, by.Forms)
		} else {
			l.flag("bits", m.Plan.Bits)
		}
		choice(l, nil, by.Overrides)
	default:
		plan := c.opts.Plan
		if plan == "" {
			plan = c.file("PLAN", ".json", "the plan with the bits of every module", "")
		}
		l.path("plan", plan)
	}
	if by.By != artifact.ByPlan && m.Plan.Grid == "" && len(by.Forms) == 0 {
		l.flagIf("group-rows", m.Plan.GroupRows, palettize.DefaultGroupRows).on("row-scale=false", !m.Plan.RowScale)
	}
	c.calibration(l, m.Calibration)
	if m.Calibration != nil {
		l.flagIf("compensate", m.Plan.Compensation, artifact.LossNorm)
	}
	c.step("manifest.json", l.flagIf("compute", m.Arithmetic, "f32"))
}

// report writes the command of the report itself, but for the name of its output.
func (c *commander) report() {
	o := &c.opts
	l := newCommand("report", o.Artifact)
	for _, x := range []struct{ flag, path string }{{"scores", o.Scores}, {"plan", o.Plan}} {
		if x.path != "" {
			l.path(x.flag, x.path)
		}
	}
	if o.Compare != "" {
		l.path("compare", o.Compare)
	}
	l.paths("eval", o.Evals).paths("gate", o.Gates).paths("recovery", o.Recoveries).paths("device", o.DeviceNames)
	l.flagIf("ctx", o.Use.Ctx, 0).flagIf("prompt", o.Use.Prompt, 0)
	if s := &o.Samples; o.Reference != "" {
		l.path("reference", o.Reference)
		if !s.builtIn() {
			for _, p := range s.Prompts {
				l.flag("sample", p)
			}
		}
		l.flagIf("sample-tokens", s.Tokens, DefaultSampleTokens)
	}
	c.step("this command", l.path("out", "report.html"))
}

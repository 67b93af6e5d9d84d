package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"afmq/cmd/afmq/internal/device"
	"afmq/cmd/afmq/internal/report"
	"afmq/pkg/artifact"
	"afmq/pkg/compare"
	"afmq/pkg/eval"
	"afmq/pkg/gate"
	"afmq/pkg/lmeval"
	"afmq/pkg/quantize"
	"afmq/pkg/recovery"
	"afmq/pkg/sensitivity"
)

// longPath is a path that is wider than a terminal. A line with it may be, too.
const longPath = "/srv/models/language/experiments of 2026/compressed/qwen3-32b-instruct-at-three-and-a-half-bits"

// digest is a SHA-256 as the commands print it. A line with it may be too wide by its label.
var digest = strings.Repeat("0123456789abcdef", 4)

// checkWidth fails for every line that is wider than a terminal and has neither longPath nor
// a digest, and for one that ends with a space.
func checkWidth(t *testing.T, what, text string) {
	t.Helper()
	if strings.TrimSpace(text) == "" {
		t.Errorf("%s prints nothing", what)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > columns && !strings.Contains(line, longPath) && !strings.Contains(line, digest) {
			t.Errorf("%s: a line of %d columns: %q", what, n, line)
		}
		if strings.HasSuffix(line, " ") {
			t.Errorf("%s: a space at the end of %q", what, line)
		}
	}
}

// Help fits a terminal.
func TestHelpWidth(t *testing.T) {
	commands := [][]string{{}, {"help"}, {"version"}, {"devices"}}
	for _, c := range newRootCommand(&app{}).Commands() {
		commands = append(commands, []string{"help", c.Name()})
	}
	commands = append(commands, []string{"help", "help"})
	for _, args := range commands {
		out, err := inProcess(args...)
		if err != nil {
			t.Fatal(err)
		}
		checkWidth(t, fmt.Sprintf("afmq %q", args), string(out))
	}
}

// moduleNames are the longest names of modules of a model with three-digit layers.
func moduleNames() []string {
	var names []string
	for _, name := range []string{"self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "mlp.down_proj"} {
		names = append(names, "model.layers.101."+name)
	}
	return append(names, "model.embed_tokens", "lm_head")
}

const gib = int64(1) << 30

// Tables fit a terminal, with the longest names and numbers that models of today give.
func TestTableWidth(t *testing.T) {
	for name, print := range map[string]func(w io.Writer) error{
		"demo":             func(w io.Writer) error { return printDemo(w, wideDemo(), longPath) },
		"plan":             func(w io.Writer) error { return printPlan(w, widePlan()) },
		"devices":          func(w io.Writer) error { return printGuide(w, wideGuide(t)) },
		"quantize":         func(w io.Writer) error { return printResult(w, wideQuantized()) },
		"inspect":          func(w io.Writer) error { return printDescription(w, wideDescription()) },
		"sensitivity of 5": func(w io.Writer) error { return printScores(w, wideScores(2, 3, 4, 6, 8)) },
		"sensitivity of 8": func(w io.Writer) error { return printScores(w, wideScores(1, 2, 3, 4, 5, 6, 7, 8)) },
		"recover":          func(w io.Writer) error { return printRecovery(w, wideRecovery(true)) },
		"recover alone":    func(w io.Writer) error { return printRecovery(w, wideRecovery(false)) },
		"diff":             func(w io.Writer) error { return printDiff(w, wideDifference()) },
		"gate":             func(w io.Writer) error { return printGate(w, wideGate(t)) },
		"eval-perplexity":  func(w io.Writer) error { return printEvaluation(w, wideEvaluation(t)) },
		"compare":          func(w io.Writer) error { return printCompare(w, wideComparison(true)) },
		"compare alone":    func(w io.Writer) error { return printCompare(w, wideComparison(false)) },
		"report":           func(w io.Writer) error { return printReport(w, wideReport()) },
	} {
		var b bytes.Buffer
		if err := print(&b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkWidth(t, name, b.String())
		if strings.ContainsRune(b.String(), '\uFDD0') {
			t.Errorf("%s prints what stands for a space in a path:\n%s", name, &b)
		}
	}
}

// A path with spaces stays in one piece, so that it can be copied.
func TestPathsAreWhole(t *testing.T) {
	var b bytes.Buffer
	if err := printRecovery(&b, wideRecovery(true)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "wrote       "+longPath+"\n") {
		t.Errorf("the path is broken:\n%s", &b)
	}
}

// Short names tell all modules of a model apart.
func TestShortNames(t *testing.T) {
	names := moduleNames()
	short := make([]string, len(names))
	for i, name := range names {
		short[i] = shortName(name)
	}
	if want := []string{"101.self_attn.q_proj", "101.self_attn.k_proj", "101.mlp.gate_proj", "101.mlp.down_proj", "model.embed_tokens", "lm_head"}; !slices.Equal(short, want) {
		t.Errorf("%q", short)
	}
}

// A text breaks between words and continues under its cell.
func TestFold(t *testing.T) {
	words := strings.Repeat("word ", 30)
	for line, want := range map[string]string{
		"short":                              "^short$",
		"label  " + words:                    `^label  (word ){13}word\n       word`,
		"rate  " + words[:70] + "195 % more": `word\n      195 % more$`,
		"  " + words:                         `^  (word ){14}word\n  word`,
		words:                                `^(word ){15}word\nword`,
		"é" + strings.Repeat("é", 100) + " " + words: `^é{101}\nword`,
	} {
		got := fold(line)
		if strings.ContainsRune(got, '\uFDD0') {
			t.Errorf("%q keeps a noncharacter", got)
		}
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%q became %q", line, got)
		}
		if joined := strings.Join(strings.Fields(got), " "); joined != strings.Join(strings.Fields(line), " ") {
			t.Errorf("%q lost or gained words: %q", line, got)
		}
	}
}

func wideDemo() demoObject {
	o := demoObject{Tokens: 123456, Prompt: demoPrompt}
	for _, name := range []string{"16 bit", "3.5 bit", "2 bit and adapter"} {
		o.Models = append(o.Models, demoRow{Name: name, Bytes: 1023 << 10, BPW: 16, Perplexity: 1234.5678, KL: 12.3456, SameTop1: 1,
			Sentence: strings.Repeat("continued without an end ", 8)})
	}
	return o
}

func widePlan() *sensitivity.Plan {
	p := &sensitivity.Plan{Method: sensitivity.Hessian, Target: &sensitivity.Target{MaxBytes: 123 * gib}, Bytes: 123 * gib, Cost: 1.23456e-10, LowerBound: 1.23455e-10}
	p.BPW.Projections, p.BPW.Model = 13.4927, 14.6787
	for _, name := range moduleNames() {
		p.Layers = append(p.Layers, sensitivity.PlanLayer{Name: name, Bits: 16, Cost: 1.2345e-10, Pinned: true})
	}
	for _, b := range []sensitivity.Baseline{
		{Name: "random", Note: "mean of 20: modules in random order get the most bits that still fit"},
		{Name: "ends kept high", Note: "layers from both ends inwards get the most bits that still fit"},
	} {
		b.BPW, b.Cost = 13.4843, 1.62563e-10
		p.Baselines = append(p.Baselines, b)
	}
	return p
}

func wideGuide(t *testing.T) *device.Guide {
	profiles, err := device.LoadAll(device.Names())
	if err != nil {
		t.Fatal(err)
	}
	g := &device.Guide{Use: device.Use{Ctx: 1 << 20, Prompt: 1 << 18}, Notes: []string{"-0.50: the same plan as the nearer neighbour; these widths give none in between"}}
	cost := 1.23456e-10
	for _, p := range profiles {
		d := device.Device{Profile: p}
		for _, name := range []string{"-0.50", "-0.25", "artifact", "+0.25", "+0.50"} {
			d.Rows = append(d.Rows, device.Row{
				Variant:  device.Variant{Name: name, BPW: 13.4927, Cost: &cost},
				Estimate: device.Estimate{WeightBytes: 999 << 20, KVBytes: 999 << 20, FirstToken: 59.94, Decode: 1234.5, DecodeFull: 0.01234},
			})
		}
		g.Devices = append(g.Devices, d)
	}
	return g
}

func wideLedger() artifact.Ledger {
	return artifact.Ledger{Indices: 100 * gib, LUT: gib, RowScale: gib, Embedding: gib, Other: gib, Container: gib, Total: 105 * gib}
}

func wideQuantized() *quantize.Result {
	r := &quantize.Result{Ledger: wideLedger(), ContentHash: digest, CalibrationTokens: 4096, Seconds: 123456.7, PeakRSSBytes: 999 * gib}
	r.BPW.Projections, r.BPW.Model = 13.4927, 14.6787
	for _, name := range moduleNames() {
		r.Layers = append(r.Layers, artifact.ModuleRecord{Name: name, Warning: "its inputs are all but constant over the calibration text; it is rounded without compensation"})
	}
	return r
}

func wideDescription() *artifact.Description {
	d := &artifact.Description{
		Kind: "artifact", ModelType: "mistral", Layers: 128, Hidden: 16384, Intermediate: 53248, Heads: 128, KVHeads: 128, HeadDim: 128,
		Vocab: 256000, Positions: 1 << 20, Window: 32768, WindowLayers: 64, RopeType: "dynamic", RopeTheta: 1e7,
		Parameters: 405 << 30, WeightBytes: 999 * gib, BitsPerParam: 16.036,
		Types: []artifact.TypeCount{{Type: "BF16", Tensors: 1234, Bytes: 999 * gib}},
	}
	m := &artifact.Manifest{ContentHash: digest, ToolVersion: "0.1.0-dev", Arithmetic: "f32", Ledger: wideLedger()}
	m.Source.Digest = digest
	for _, name := range moduleNames() {
		m.Plan.Modules = append(m.Plan.Modules, artifact.ModuleRecord{Name: name, Form: artifact.RowInt8, Bits: 16, Bytes: 1023 << 20, RelError: 0.12345})
	}
	d.Manifest = m
	return d
}

func wideScores(bits ...int) sensitivityObject {
	o := sensitivityObject{Out: longPath, Method: sensitivity.Fisher, Unit: "nats per token", Bits: bits, Tokens: 16384, Validation: &sensitivity.Validation{}}
	for _, name := range moduleNames() {
		m := sensitivity.ModuleScore{Name: name}
		for range bits {
			m.Costs = append(m.Costs, 1.2345e-10)
		}
		o.Modules = append(o.Modules, m)
	}
	for _, b := range bits {
		o.Validation.ByBits = append(o.Validation.ByBits, sensitivity.ValidatedBits{Bits: b, Spearman: -0.1234, Ratio: 1234.567})
	}
	return o
}

func wideRecovery(teacher bool) recoverObject {
	kl, share, perplexity := 1.234567, -12.345, 12345.6789
	o := recoverObject{Out: longPath, Result: &recovery.Result{}}
	o.TrainTokens, o.ValidationTokens, o.TestTokens, o.ExcludedTokens = 123456789, 32768, 32768, 1234567
	o.Steps, o.Seconds, o.TokensPerSecond = 123456, 1234567.8, 12345
	for _, rank := range []int{8, 128} {
		a := recovery.AdapterResult{Rank: rank, Bytes: 1023 << 20, Step: 123456, WithAdapter: 12.3456, Tokens: 123456789,
			PerplexityBefore: perplexity, PerplexityAfter: perplexity}
		a.Test = &recovery.TestResult{PerplexityBefore: perplexity, PerplexityAfter: perplexity}
		if teacher {
			a.KLBefore, a.KLAfter, a.Recovered = &kl, &kl, &share
			a.Test.KLBefore, a.Test.KLAfter, a.Test.Recovered, a.Test.PerplexityTeacher = &kl, &kl, &share, &perplexity
		}
		o.Adapters = append(o.Adapters, a)
	}
	return o
}

func wideDifference() *artifact.Difference {
	x, isSource := 12.34567, true
	model := func(kind string) artifact.DiffModel {
		m := artifact.DiffModel{Path: longPath, Kind: kind, ContentHash: digest, Bytes: 999 * gib}
		m.BPW.Projections, m.BPW.Model = 13.4927, 14.6787
		return m
	}
	d := &artifact.Difference{
		A: model("checkpoint"), B: model("artifact"), IsSource: &isSource,
		Files:      []artifact.FileDifference{{Name: "special_tokens_map.json", A: digest, B: digest}},
		Provenance: []artifact.KeyDifference{{Key: "calibration.digest", A: digest, B: digest}, {Key: "plan.compensation", A: "none", B: "gptq"}},
		Totals:     artifact.DiffTotals{LayersChanged: 1234, WeightsChanged: 1, WeightDistance: &x, RelErrorA: &x, RelErrorB: &x},
	}
	form := func(f artifact.Form, bits int) artifact.LayerForm {
		return artifact.LayerForm{Form: f, Bits: bits, Bytes: 999 << 20, RelError: &x}
	}
	for i, name := range append(moduleNames(), "model.layers.101.post_attention_layernorm") {
		d.Layers = append(d.Layers, artifact.LayerDifference{
			Name: name, A: form(artifact.Palette, 4), B: form(artifact.Plain, 16), WeightDistance: &x, LUTDistance: &x, WeightsChanged: 1,
		})
		d.Layers[i].B.Bytes++
		d.Layers[i].B.Bytes += 1 << 20
	}
	return d
}

func wideGate(t *testing.T) *gateObject {
	x, y := 1.234567, 12.3456
	r := &gate.Result{
		Verdict: wideVerdict(t), Tokens: 123456789, Windows: 123456, NatsPerToken: x, KLMean: &x, BaselineNats: &x, BaselineKL: &x, Updated: true,
		Setting: gate.Setting{Protocol: eval.LlamaCpp, Ctx: 131072, Stride: 65536, Compute: "split"},
		Model:   gate.Subject{Kind: "artifact", Digest: digest, Bytes: 999 * gib, BPW: &y},
	}
	return &gateObject{Artifact: longPath, Baseline: longPath, Result: r}
}

// wideVerdict is that of a text which is too short.
func wideVerdict(t *testing.T) *gate.Verdict {
	v := &gate.Verdict{Outcome: gate.Inconclusive, Checks: wideChecks(t)}
	v.Nats, v.KL = v.Checks[0].Interval, v.Checks[0].Interval
	return v
}

func wideChecks(t *testing.T) []gate.Check {
	var all []gate.Check
	tokens, values := make([]int, 64), make([]float64, 64)
	for i := range tokens {
		tokens[i], values[i] = 123456, 0.123456*float64(i%5)
	}
	for _, q := range []gate.Quantity{gate.NatsRise, gate.PerplexityRise, gate.KL} {
		c, err := gate.CheckMean(q, tokens, values, 0.2468)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func wideEvaluation(t *testing.T) *evalObject {
	r := &eval.Result{
		Protocol: eval.Stride, Ctx: 131072, Stride: 65536, Tokens: 123456789, NatsPerToken: 12.345678, Perplexity: 123456.7891, PerplexitySE: 12345.6789,
		BitsPerByte: 12.34567, Seconds: 1234567.8, TokensPerSecond: 123456,
		Comparison: &eval.Comparison{
			KL:       eval.Divergence{Mean: 12.345678, Median: 12.345678, P99: 12.345678, P999: 12.345678, Max: 12.345678},
			SameTop1: 1, DeltaPRMS: 1, ReferencePerplexity: 123456.7891, PerplexityRatio: 123.456789,
		},
	}
	o := &evalObject{Result: r, Compute: "split", Adapters: []adapterEvaluation{{Name: "rank-128-of-the-summarizer", Result: r}}, Gate: &gateResult{Outcome: gate.Inconclusive}}
	for _, c := range wideChecks(t) {
		o.Gate.Checks = append(o.Gate.Checks, evalCheck{Adapter: "rank-128-of-the-summarizer", Check: c})
	}
	return o
}

// wideComparison has models of the largest sizes and losses, one of which is dominated by all others.
func wideComparison(reference bool) *compareObject {
	names := []string{"qwen3-32b", "4-bit", "3.5-bit+r16", "2-bit+rank-128"}
	r := &compare.Result{Protocol: eval.Stride, Ctx: 131072, Stride: 65536, Tokens: 123456789, Windows: 123456, Compute: "split", Quantity: compare.ByKL, Confidence: 0.95}
	iv := &gate.Interval{Mean: 0.123456, SE: 0.012345, Low: -1.123456, High: 1.123456, Confidence: 0.95}
	up, x, y := true, 0.123456, 123.456
	for i, name := range names {
		row := compare.Row{
			Name: name, Bytes: 999 * gib, BPW: artifact.BitsPerWeight{Model: 16}, Perplexity: 1234.5678, PerplexitySE: 123.4567, BitsPerByte: 12.3456, Speed: 123456,
			Standing: compare.OnFront, NotShownBetterThan: names[1:2],
			Divergence: &compare.Divergence{KL: eval.Divergence{Mean: 1.234567, P999: 12.345678}, KLInterval: iv, SameTop1: 1},
			Tasks: &compare.Tasks{Scores: []lmeval.Score{
				{Task: "leaderboard_bbh_tracking_shuffled_objects_seven_objects", Metric: "acc_norm", Filter: "none", Items: 123456, Value: x, StdErr: &x, HigherIsBetter: &up,
					Recovery: &y, Chance: &x, AtChance: true, Flips: &lmeval.Flips{Items: 123456, Worse: 12345, Better: 12345, PValue: 1}},
				{Task: "mmlu_abstract_algebra", Within: "mmlu", Metric: "acc", Filter: "none"},
			}},
		}
		if i == 3 {
			row.Standing, row.DominatedBy = compare.IsDominated, names[:3]
		}
		r.Models = append(r.Models, row)
	}
	if reference {
		r.Reference, r.Models[0].Standing, r.Models[0].Divergence = &names[0], compare.IsReference, nil
	} else {
		r.Quantity = compare.ByLoss
	}
	for i, a := range names[1:] {
		for _, b := range names[i+2:] {
			r.Pairs = append(r.Pairs, compare.Pair{A: a, B: b, Difference: iv})
		}
	}
	r.Best = []compare.Best{{MaxBytes: 999 * gib, Models: names}}
	r.Front = names[:3]
	return &compareObject{Data: longPath, Result: r}
}

func wideReport() reportObject {
	return reportObject{Out: longPath, Bytes: 12 << 20, Sections: []report.Section{
		{Title: "Sensitivity per layer", Command: "afmq sensitivity MODEL --calib FILE --out scores.json", Option: "--scores scores.json"},
		{Title: "Divergence against size", Command: "afmq eval-perplexity ARTIFACT --data FILE --reference MODEL --json > eval.json", Option: "--eval eval.json"},
	}}
}

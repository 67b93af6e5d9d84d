package report

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"afmq/cmd/afmq/internal/device"
	"afmq/internal/demo"
	"afmq/internal/infile"
	"afmq/pkg/adapter"
	"afmq/pkg/artifact"
	"afmq/pkg/compare"
	"afmq/pkg/compute"
	"afmq/pkg/eval"
	"afmq/pkg/gate"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/quantize"
	"afmq/pkg/safetensors"
	"afmq/pkg/sensitivity"
)

var bg = context.Background()

// The fixture, made once: the demo model; its artifacts at 3.3 bits on average, with scores and
// plan, at 4 and at 2 bits; and an artifact of another model.
var (
	pool    *compute.Pool
	fixture string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "report-test-")
		if err != nil {
			log.Fatal(err)
		}
		defer os.RemoveAll(dir)
		fixture, pool = dir, compute.NewPool(0)
		defer pool.Close()
		if err := makeFixture(); err != nil {
			log.Fatal(err)
		}
		return m.Run()
	}())
}

func in(parts ...string) string { return filepath.Join(append([]string{fixture}, parts...)...) }

func makeFixture() error {
	for _, name := range []string{"model", "stranger"} {
		if err := demo.Extract(in(name)); err != nil {
			return err
		}
	}
	config, err := os.ReadFile(in("stranger", "config.json"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(in("stranger", "config.json"), append(config, ' '), 0o666); err != nil {
		return err
	}
	scored, err := sensitivity.Score(bg, sensitivity.Options{
		Model: in("model"), Out: in("scores.json"), Method: sensitivity.Weight, Pool: pool, ToolVersion: "test",
	})
	if err != nil {
		return err
	}
	plan, err := sensitivity.MakePlan(scored.Scores, sensitivity.PlanOptions{Target: sensitivity.Target{BPW: 3.3}})
	if err != nil {
		return err
	}
	if err := plan.Write(in("plan.json")); err != nil {
		return err
	}
	for _, o := range []quantize.Options{
		{Model: in("model"), Out: in("mixed"), Plan: plan},
		{Model: in("model"), Out: in("four"), Bits: 4},
		{Model: in("model"), Out: in("two"), Bits: 2, NoRowScale: true},
		{Model: in("stranger"), Out: in("strange"), Bits: 2, NoRowScale: true},
	} {
		o.ToolVersion, o.Pool = "test", pool
		if _, err := quantize.Run(bg, o); err != nil {
			return err
		}
	}
	m, err := artifact.ReadManifest(in("mixed"))
	if err != nil {
		return err
	}
	if err := os.Mkdir(in("recovered"), 0o777); err != nil {
		return err
	}
	for _, rank := range []string{"rank-4", "rank-8"} {
		if err := writeAdapter(in("mixed"), m.ContentHash, in("recovered", rank)); err != nil {
			return err
		}
	}
	record, metrics := recoveryFiles(m.ContentHash)
	if err := os.WriteFile(in("recovered", "recovery.json"), []byte(record), 0o666); err != nil {
		return err
	}
	if err := os.WriteFile(in("recovered", "metrics.jsonl"), []byte(metrics), 0o666); err != nil {
		return err
	}
	return makeComparison()
}

// makeComparison compares the artifacts of the fixture, one of them with an adapter, on text that the
// model wrote and on tasks.
func makeComparison() error {
	m, err := infer.Open(bg, in("model"), infer.OpenOptions{Pool: pool})
	if err != nil {
		return err
	}
	texts, err := m.SampleTexts(bg, pool, 16, 60, 1, nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(in("written.txt"), []byte(strings.Join(texts, "\n\n")), 0o666); err != nil {
		return err
	}
	const lm = "../../../../pkg/lmeval/testdata/"
	r, err := compare.Run(bg, compare.Options{
		Models: []compare.Model{{Path: in("mixed")}, {Path: in("four")}, {Path: in("two")}}, Reference: &compare.Model{Path: in("model")},
		Adapters: []eval.Adapter{{Name: "rank-8", Dir: in("recovered", "rank-8")}}, Data: in("written.txt"), Ctx: 64, Pool: pool,
		Tasks: []compare.TaskFile{{Row: "model", Path: lm + "reference"}, {Row: "mixed", Path: lm + "q4"}},
	})
	if err != nil {
		return err
	}
	data, err := json.Marshal(struct {
		Schema string `json:"schema"`
		Data   string `json:"data"`
		*compare.Result
	}{compareSchema, in("written.txt"), r})
	if err != nil {
		return err
	}
	return os.WriteFile(in("compare.json"), data, 0o666)
}

// writeAdapter writes an adapter of rank 1 for the query projections, which changes little.
func writeAdapter(base, hash, dir string) error {
	cfg, err := model.LoadConfig(base)
	if err != nil {
		return err
	}
	a := &adapter.Adapter{Dir: dir, Base: hash, Config: adapter.Config{Rank: 1, Alpha: 1}, Modules: map[string]adapter.Weights{}}
	for _, spec := range cfg.Tensors() {
		if spec.Kind == "q_proj" {
			a.Config.Modules = append(a.Config.Modules, spec.Module())
			a.Modules[spec.Module()] = adapter.Weights{A: make([]float32, spec.Shape[1]), B: make([]float32, spec.Shape[0])}
		}
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	return adapter.Write(a, cfg, safetensors.F16, func(path string, data []byte) error { return os.WriteFile(path, data, 0o666) })
}

// writeGate writes the verdict of a gate on a model and returns its path; change may be nil.
func writeGate(t testing.TB, dir, name, model string, limit float64, change func(*gateFile)) string {
	t.Helper()
	m, err := artifact.ReadManifest(model)
	if err != nil {
		t.Fatal(err)
	}
	iv := gate.Interval{Mean: 0.02, SE: 0.005, Low: 0.01, High: 0.03, Confidence: 0.95, Windows: 40, Batches: 6}
	c := gate.Check{Name: gate.KL, Unit: "nats per token", Value: iv.High, Limit: limit, Outcome: iv.Against(limit), Interval: &iv, Message: "mean divergence from the reference is 0.02"}
	source := m.Source.Digest
	g := &gateFile{Schema: gateSchema, Data: "held-out.txt", Baseline: "baseline.json", Result: &gate.Result{
		Verdict: &gate.Verdict{Outcome: c.Outcome, Passed: c.Outcome == gate.NoWorse, Checks: []gate.Check{c}},
		Setting: gate.Setting{Data: dataDigest, Tokenizer: m.Tokenizer, Protocol: eval.Chunk, Ctx: 128, Compute: "f32", Reference: &source},
		Model:   gate.Subject{Kind: "artifact", Digest: m.ContentHash, Bytes: m.Ledger.Total},
	}}
	if change != nil {
		change(g)
	}
	data, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// recoveryFiles are the outputs of `afmq recover` with two ranks after four steps.
func recoveryFiles(artifact string) (record, metrics string) {
	adapter := func(rank int, after float64) string {
		return fmt.Sprintf(`{"rank":%d,"path":"rank-%[1]d","last":"rank-%[1]d-last","bytes":%d,"params":100,"tokens":256,"step":3,"bpw_with_adapter":%g,
"kl_before":0.05,"kl_init":0.04,"kl_after":%g,"recovered":%g,"perplexity_before":60,"perplexity_init":58,"perplexity_after":56,"perplexity_teacher":55}`,
			rank, 1000*rank, 4.5+float64(rank)/8, after, 1-after/0.05)
	}
	record = fmt.Sprintf(`{"schema":"afmq.recovery/v1","job":{"artifact":%q},"adapters":[%s,%s],"steps":4,"step_tokens":64,"train_tokens":900,"validation_tokens":321}`,
		artifact, adapter(8, 0.02), adapter(4, 0.03))
	for _, rank := range []int{8, 4} {
		metrics += fmt.Sprintf(`{"step":0,"tokens":0,"rank":%d,"validation_kl":0.04,"validation_perplexity":58}`+"\n", rank)
		for step := 1; step <= 4; step++ {
			metrics += fmt.Sprintf(`{"step":%d,"tokens":%d,"rank":%d,"loss":%g,"rate":0.001,"gradient_norm":1}`+"\n", step, 64*step, rank, 0.04-0.002*float64(step))
		}
		metrics += fmt.Sprintf(`{"step":4,"tokens":256,"rank":%d,"validation_kl":%g,"validation_perplexity":56}`+"\n", rank, 0.12/float64(rank))
	}
	return record, metrics
}

// figures returns an evaluation with consistent figures.
func figures(nats, kl float64, tokens int) map[string]any {
	e := map[string]any{
		"protocol": "chunk", "ctx": 128, "tokens": tokens, "nats_per_token": nats, "perplexity": math.Exp(nats), "perplexity_se": 0.5,
		"bits_per_byte": 1.7, "seconds": 1.5, "tokens_per_second": 1000, "compute": "f32",
	}
	if kl >= 0 {
		e["kl"] = map[string]float64{"mean": kl, "median": kl / 2, "p99": 4 * kl, "p999": 8 * kl, "max": 9 * kl}
		e["same_top1"], e["delta_p_rms"], e["reference_perplexity"], e["perplexity_ratio"] = 0.9, 0.05, math.Exp(3.5), math.Exp(nats-3.5)
	}
	return e
}

// dataDigest is the digest of the text of evaluations.
var dataDigest = strings.Repeat("da", 32)

// identity returns the identity of an evaluation of a model of the fixture, against the source if
// it is compared. A model that does not exist is taken for the artifact "mixed".
func identity(t testing.TB, model string, compared bool) map[string]any {
	t.Helper()
	if _, err := os.Stat(model); err != nil {
		model = in("mixed")
	}
	tokenizer, err := infile.Hash(filepath.Join(model, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	id := map[string]any{"data": dataDigest, "tokenizer": tokenizer, "reference": nil}
	digest := func(dir string) string {
		d, err := artifact.DigestCheckpoint(bg, pool, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if compared {
		id["reference"] = digest(in("model"))
	}
	if !artifact.IsArtifact(model) {
		d := digest(model)
		id["model"] = eval.ModelIdentity{Kind: "checkpoint", Digest: d, Source: d, Verified: true, Bytes: 2_134_864}
		return id
	}
	m, err := artifact.ReadManifest(model)
	if err != nil {
		t.Fatal(err)
	}
	id["model"] = eval.ModelIdentity{Kind: "artifact", Digest: m.ContentHash, Source: m.Source.Digest, Verified: true, Bytes: m.Ledger.Total, Recipe: eval.NewRecipe(m)}
	return id
}

// adapterIdentity is that of an adapter of rank 8.
func adapterIdentity() eval.AdapterIdentity {
	return eval.AdapterIdentity{SHA256: strings.Repeat("ad", 32), Rank: 8, Bytes: 9000, TensorBytes: 8000, Bound: true}
}

// writeEval writes an evaluation of a model and returns its path; change may be nil.
func writeEval(t testing.TB, dir, name, model string, nats, kl float64, change func(map[string]any)) string {
	t.Helper()
	e := figures(nats, kl, 1000)
	e["schema"], e["model"], e["data"] = "afmq.eval/v1", model, "held-out.txt"
	e["identity"] = identity(t, model, kl >= 0)
	if change != nil {
		change(e)
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// everything returns the options of a report on the mixed artifact with all sections.
func everything(t testing.TB) Options {
	dir := t.TempDir()
	with := func(e map[string]any) {
		a := figures(3.52, 0.02, 1000)
		a["name"], a["path"], a["identity"] = "rank-8", "recovered/rank-8", adapterIdentity()
		e["adapters"] = []any{a}
	}
	return Options{
		Devices: carried(t, "raspberry-pi-5", "iphone-15-pro"), Use: device.Use{Ctx: 512},
		Artifact: in("mixed"), Reference: in("model"), Compare: in("compare.json"), Scores: in("scores.json"), Plan: in("plan.json"), Recoveries: []string{in("recovered")},
		Gates:   []string{writeGate(t, dir, "gate.json", in("mixed"), 0.05, nil)},
		Samples: SampleOptions{Prompts: []string{"The old man", "The sea"}, Tokens: 6},
		Evals: []string{
			writeEval(t, dir, "mixed.json", in("mixed"), 3.55, 0.05, with),
			writeEval(t, dir, "four.json", in("four"), 3.52, 0.02, nil),
			writeEval(t, dir, "two.json", in("two"), 3.9, 0.4, nil),
			writeEval(t, dir, "source.json", in("model"), 3.5, -1, nil),
			writeEval(t, dir, "other.json", in("mixed"), 3.56, 0.06, func(e map[string]any) { e["ctx"] = 64 }),
		},
	}
}

func carried(t testing.TB, names ...string) []*device.Profile {
	t.Helper()
	p, err := device.LoadAll(names)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustMake(t testing.TB, o Options) (*Report, string) {
	t.Helper()
	r, err := Make(bg, pool, o)
	if err != nil {
		t.Fatal(err)
	}
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	return r, string(page)
}

// element is one element of a page.
type element struct {
	name  string
	attrs map[string]string
	text  string // without that of its children
}

// parse returns the elements of a page in order, and fails on one that is not well-formed.
func parse(t testing.TB, page string) []element {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Entity = xml.HTMLEntity
	var out []element
	var open []int
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			e := element{name: tok.Name.Local, attrs: map[string]string{}}
			for _, a := range tok.Attr {
				key := a.Name.Local
				if a.Name.Space != "" {
					key = a.Name.Space + ":" + key
				}
				e.attrs[key] = a.Value
			}
			open = append(open, len(out))
			out = append(out, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				out[open[len(open)-1]].text += string(tok)
			}
		}
	}
}

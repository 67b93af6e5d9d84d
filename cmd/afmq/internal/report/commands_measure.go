package report

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"afmq/pkg/eval"
	"afmq/pkg/fault"
	"afmq/pkg/gate"
	"afmq/pkg/recovery"
)

// recoverJob has the keys of the job of a recovery that are options of the command.
type recoverJob struct {
	Teacher     string                 `json:"teacher"`
	Data        []string               `json:"data"`
	Formats     []string               `json:"data_formats"` // of Data
	Ranks       []int                  `json:"ranks"`
	Init        string                 `json:"init"`
	From        string                 `json:"from"`
	Loss        string                 `json:"loss"`
	Mix         float64                `json:"mix"`
	Temperature float64                `json:"temperature"`
	Alpha       float64                `json:"alpha"`
	RSLoRA      bool                   `json:"rslora"`
	Targets     []string               `json:"targets"`
	Pattern     []recovery.RankPattern `json:"rank_pattern"`
	Rate        float64                `json:"rate"`
	Warmup      float64                `json:"warmup"`
	WeightDecay float64                `json:"weight_decay"`
	Clip        float64                `json:"clip"`
	Tokens      int64                  `json:"tokens"`
	SeqLen      int                    `json:"seq_len"`
	BatchTokens int                    `json:"batch_tokens"`
	Validation  int                    `json:"validation"`
	InitTokens  int                    `json:"init_tokens"`
	Seed        int64                  `json:"seed"`
	Float32     bool                   `json:"float32"`
	Float8      bool                   `json:"float8"`
	Allocation  string                 `json:"rank_allocation"`
	Compute     string                 `json:"compute"`
}

// recover writes the command of a recovery. A job without data is of a former version, and has no
// command.
// untuned returns the path of the artifact before a tuning of the manifest.
func (c *commander) untuned(i int) string {
	return c.file("UNTUNED", "", "the artifact before it was tuned; the digest is its content hash", c.art.manifest.Tuning[i].Parent)
}

// tune writes the commands that trained the artifact's numbers.
func (c *commander) tune() {
	tunings := c.art.manifest.Tuning
	for i := range tunings {
		t := &tunings[i]
		l := newCommand("tune", c.untuned(i)).path("teacher", c.model())
		c.trainingData(l, t.Files, t.Formats)
		l.flag("what", strings.Join(t.Numbers, ",")).flag("loss", t.Loss)
		if t.Loss == string(recovery.LossMix) {
			l.flag("mix", t.Mix)
		}
		l.flagIf("temperature", t.Temperature, 1.0).flag("tokens", t.Tokens).flag("seq-len", t.SeqLen).flag("batch-tokens", t.BatchTokens)
		l.flag("rate", t.Rate).flagIf("warmup", t.Warmup, recovery.DefaultWarmup).flagIf("clip", t.Clip, recovery.DefaultClip)
		l.flagIf("validation-tokens", t.Validation, 0).flagIf("seed", t.Seed, int64(0)).flagIf("compute", t.Arithmetic, "f32")
		out := c.opts.Artifact
		if i+1 < len(tunings) {
			out = c.untuned(i + 1)
		}
		c.step("manifest.json", l.path("out", out))
	}
}

// trainingData adds the files of text with these digests that were read in these formats.
func (c *commander) trainingData(l *commandLine, digests, formats []string) {
	for i, d := range digests {
		extension := "" // which decides how a file is read
		if i < len(formats) {
			extension = map[string]string{"jsonl": ".jsonl", "tokens": ".safetensors", "text": ".txt"}[formats[i]]
		}
		l.path("data", c.file("TRAIN", extension, "training text", d))
	}
}

func (c *commander) recover(r recoveryRun) error {
	var j recoverJob
	if err := json.Unmarshal(r.record.Job, &j); err != nil {
		return fault.Inputf(filepath.Join(r.dir, recovery.RecordFile), "has a job that cannot be read: %v", err)
	}
	if len(j.Data) == 0 {
		return nil
	}
	l := newCommand("recover", c.opts.Artifact)
	if j.Teacher != "" {
		l.path("teacher", c.file("TEACHER", "", "the teacher", j.Teacher))
		l.on("allow-teacher", j.Teacher != c.art.manifest.Source.Digest)
	}
	c.trainingData(l, j.Data, j.Formats)
	if j.From != "" {
		l.path("from", c.file("ADAPTER", "", "the adapter that training started from; the digest is that of adapter_model.safetensors", j.From))
	} else {
		l.flag("rank", joinInts(j.Ranks)).flagIf("init", j.Init, "").flagIf("alpha", j.Alpha, 0.0).on("rslora", j.RSLoRA).flagIf("rank-allocation", j.Allocation, "")
		for _, t := range j.Targets {
			l.flag("targets", t)
		}
		for _, p := range j.Pattern {
			l.flag("rank-pattern", fmt.Sprintf("%s=%d", p.Pattern, p.Rank))
		}
	}
	l.flag("loss", j.Loss)
	if j.Loss == string(recovery.LossMix) {
		l.flag("mix", j.Mix)
	}
	l.flagIf("temperature", j.Temperature, 1.0).flag("tokens", j.Tokens).flag("seq-len", j.SeqLen).flag("batch-tokens", j.BatchTokens)
	l.flag("rate", j.Rate).flagIf("warmup", j.Warmup, recovery.DefaultWarmup).flagIf("weight-decay", j.WeightDecay, 0.0).flagIf("clip", j.Clip, recovery.DefaultClip)
	l.flagIf("validation-tokens", j.Validation, 0).flagIf("init-tokens", j.InitTokens, recovery.DefaultInitTokens)
	l.flagIf("seed", j.Seed, int64(0)).on("f32", j.Float32).on("f8", j.Float8).flagIf("compute", j.Compute, "f32")
	c.step(recovery.RecordFile, l.path("out", r.dir))
	return nil
}

func (c *commander) evaluate(e *evalFile) {
	model := e.Model
	if e.Identity.Model.Digest == c.art.manifest.ContentHash {
		model = c.opts.Artifact // where it is now
	}
	l := newCommand("eval-perplexity", model).path("data", e.Data)
	if e.Reference != nil {
		l.path("reference", *e.Reference)
	}
	setting(l, e.Protocol, e.Ctx, e.Stride, e.Compute)
	if r := e.ReferenceCompute; r != nil {
		l.flagIf("reference-compute", *r, e.Compute)
	}
	unbound, overlap := false, e.Overlap != nil && e.Overlap.SameFile
	for _, a := range e.Adapters {
		value := a.Path
		if filepath.Base(filepath.Clean(a.Path)) != a.Name {
			value = a.Name + "=" + a.Path
		}
		l.path("adapter", value)
		unbound, overlap = unbound || !a.Identity.Bound, overlap || a.Identity.Overlap.SameFile
	}
	l.on("allow-unbound", unbound).on("allow-overlap", overlap).on("verify=false", !e.Identity.Model.Verified)
	if e.Gate != nil {
		limits := map[gate.Quantity]float64{}
		for _, check := range e.Gate.Checks {
			limits[check.Name] = check.Limit
		}
		if limit, ok := limits[gate.PerplexityRise]; ok {
			l.flag("max-ppl-increase", fmt.Sprintf("%v%%", rounded(100*math.Expm1(limit))))
		}
		if limit, ok := limits[gate.KL]; ok {
			l.flag("max-kl", limit)
		}
	}
	c.step(filepath.Base(e.file), l.on("json", true).to(e.file))
}

func setting(l *commandLine, p eval.Protocol, ctx, stride int, compute string) {
	l.flagIf("protocol", string(p), string(eval.Chunk)).flag("ctx", ctx).flagIf("stride", stride, 0).flag("compute", compute)
}

// rounded rounds to twelve digits, which hides that a share was stored as its logarithm.
func rounded(x float64) float64 {
	scale := math.Pow(10, 12)
	return math.Round(x*scale) / scale
}

func (c *commander) judge(g *gateFile) {
	l := newCommand("gate", c.opts.Artifact).path("baseline", g.Baseline).path("data", g.Data)
	if g.Reference != "" {
		l.path("reference", g.Reference)
	}
	setting(l, g.Setting.Protocol, g.Setting.Ctx, g.Setting.Stride, g.Setting.Compute)
	if g.Adapter != "" {
		l.path("adapter", g.Adapter)
	}
	flags := map[gate.Quantity]string{gate.NatsRise: "max-nats", gate.KLRise: "max-kl-rise", gate.KL: "max-kl", gate.Bytes: "max-bytes", gate.BPW: "max-bpw"}
	for _, check := range g.Checks {
		switch flag, known := flags[check.Name]; {
		case !known:
		case check.Name == gate.Bytes:
			l.flag(flag, int64(check.Limit))
		default:
			l.flag(flag, check.Limit)
		}
	}
	sameFile := g.Overlap != nil && g.Overlap.SameFile || g.Training != nil && g.Training.SameFile
	l.on("update", g.Updated).on("accept-worse", g.Accepted).on("allow-overlap", sameFile)
	c.step(filepath.Base(g.file), l.on("json", true).to(g.file))
}

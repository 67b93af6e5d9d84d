package recovery

import (
	"context"
	"encoding/json"
	"math"
	"slices"

	"afmq/internal/infile"
	"afmq/pkg/artifact"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// TuneSchema is the version of tuning.json.
const TuneSchema = "afmq.tuning/v1"

// TuneRecordFile is the record in the directory that [Tune] makes, beside [MetricsFile].
const TuneRecordFile = artifact.TuningFile

// TuneRecord is the content of tuning.json. Equal jobs give equal records.
type TuneRecord struct {
	Schema           string          `json:"schema"`
	Job              json.RawMessage `json:"job"` // everything that the result depends on
	Made             []Made          `json:"made"`
	Numbers          []Numbers       `json:"numbers"` // kinds of numbers that were trained
	Values           int64           `json:"values"`  // how many numbers
	Tokens           int64           `json:"tokens"`  // trained on
	Step             int64           `json:"step"`    // whose numbers are stored; 0 is before the first
	Steps            int64           `json:"steps"`
	StepTokens       int             `json:"step_tokens"`
	TrainTokens      int             `json:"train_tokens"`      // in the training text
	ValidationTokens int             `json:"validation_tokens"` // scored after every evaluation
	TestTokens       int             `json:"test_tokens"`       // scored once, at the end
	ExcludedTokens   int             `json:"excluded_tokens"`   // in neither text; see [Record]
	Validation       TuneFigures     `json:"validation"`        // of text that chose the step
	Test             TuneFigures     `json:"test"`              // of text that chose nothing
}

// TuneFigures are figures of a text: mean KL(teacher ‖ model) in nats per token, and perplexity.
type TuneFigures struct {
	KLBefore          float64 `json:"kl_before"`
	KLAfter           float64 `json:"kl_after"`
	PerplexityBefore  float64 `json:"perplexity_before"`
	PerplexityAfter   float64 `json:"perplexity_after"`
	PerplexityTeacher float64 `json:"perplexity_teacher"`
}

func figures(before, after, teacher score) TuneFigures {
	return TuneFigures{before.KL, after.KL, math.Exp(before.Nats), math.Exp(after.Nats), math.Exp(teacher.Nats)}
}

// TuneResult is what [Tune] returns.
type TuneResult struct {
	TuneRecord
	Parent          string                 `json:"parent"`       // content hash of the artifact before; see artifact.ContentHash
	ContentHash     string                 `json:"content_hash"` // of the tuned one
	BPW             artifact.BitsPerWeight `json:"bpw"`
	Bytes           int64                  `json:"bytes"`             // of model.safetensors
	ResumedSteps    int64                  `json:"resumed_steps"`     // made by an earlier, interrupted run
	Seconds         float64                `json:"seconds"`           // wall-clock time
	TokensPerSecond float64                `json:"tokens_per_second"` // trained on, evaluation included
	PeakRSSBytes    int64                  `json:"peak_rss_bytes"`    // largest resident memory; 0 where the system does not say

	Warnings []string `json:"-"` // one line each, for people
}

// writeTuned writes the artifact of the best step.
func (r *tuneRun) writeTuned(ctx context.Context, t *trainer, res *TuneResult) error {
	parent, o := r.manifest, r.opts
	m := *parent
	m.ToolVersion = o.ToolVersion
	m.Plan.Modules = slices.Clone(parent.Plan.Modules)
	if res.Step > 0 { // the errors of outputs are those of the values and of the inputs before
		for i := range m.Plan.Modules {
			m.Plan.Modules[i].OutputError = 0
		}
	}
	weights, err := r.writeTensors(ctx, t, &m)
	if err != nil {
		return err
	}
	m.Tuning = append(slices.Clone(parent.Tuning), artifact.TuningRecord{
		Parent: parent.ContentHash, Loss: string(o.Loss), Mix: o.Mix, Temperature: o.Temperature,
		Rate: o.Rate, Warmup: max(o.Warmup, 0), Clip: max(o.Clip, 0),
		SeqLen: o.SeqLen, BatchTokens: o.BatchTokens, Validation: o.Validation,
		Tokens: o.Tokens, Step: res.Step, Seed: o.Seed, Arithmetic: o.Compute.String(), ToolVersion: o.ToolVersion,
		Files: r.data.files, Formats: r.data.formats, Passages: r.passages,
	})
	last := &m.Tuning[len(m.Tuning)-1]
	for _, n := range r.numbers {
		last.Numbers = append(last.Numbers, string(n))
	}
	m.Files = []artifact.FileDigest{weights}
	write := func(name string, data []byte) error {
		m.Files = append(m.Files, artifact.FileDigest{Name: name, Bytes: int64(len(data)), SHA256: infile.SHA256(data)})
		return t.dir.WriteFile(name, data)
	}
	for _, f := range r.companions {
		if err := write(f.name, f.data); err != nil {
			return err
		}
	}
	record, err := json.MarshalIndent(res.TuneRecord, "", "  ")
	if err != nil {
		return err
	}
	if err := write(TuneRecordFile, append(record, '\n')); err != nil {
		return err
	}
	if err := writeMetrics(t.metrics, write); err != nil {
		return err
	}
	manifest, sum, err := m.Encode()
	if err != nil {
		return err
	}
	if err := t.dir.WriteFile(artifact.ManifestFile, manifest); err != nil {
		return err
	}
	res.Parent, res.ContentHash, res.BPW, res.Bytes = parent.ContentHash, m.ContentHash, m.BPW, weights.Bytes
	if err := t.dir.WriteFile(artifact.ManifestDigestFile, sum); err != nil {
		return err
	}
	return t.dir.WriteFile(artifact.CardFile, m.Card(artifact.ArtifactCard(r.artifact.Dir)))
}

// writeTensors writes model.safetensors and sets what the manifest says of it.
func (r *tuneRun) writeTensors(ctx context.Context, t *trainer, m *artifact.Manifest) (file artifact.FileDigest, err error) {
	data := map[string][]byte{} // of tensors that were trained
	for _, st := range r.stored.tensors {
		for i, d := range st.Data() {
			data[st.Names[i]] = d
		}
		if t.Best[0].Step > 0 {
			r.describe(t.pool, st, m)
		}
	}
	source := r.artifact.File
	var infos []safetensors.Info
	m.Tensors = nil
	for _, name := range source.Names() {
		x, _ := source.Tensor(name)
		infos = append(infos, safetensors.Info{Name: x.Name, DType: x.DType, Shape: x.Shape})
	}
	path := t.dir.Path(artifact.WeightsFile)
	w, err := safetensors.Create(path, infos, source.Metadata())
	if err != nil {
		return file, err
	}
	err = safetensors.Guard(source.Path(), func() error {
		for _, info := range infos {
			content, trained := data[info.Name]
			if !trained {
				x, _ := source.Tensor(info.Name)
				content = x.Bytes()
			}
			digest := artifact.NewTensorDigest(info, content)
			if !trained && digest.SHA256 != r.artifact.Digests[info.Name].SHA256 {
				return fault.Inputf(source.Path(), "tensor %q changed while it was being read", info.Name)
			}
			m.Tensors = append(m.Tensors, digest)
			if err := w.Append(content); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.Abort()
		return file, err
	}
	if err := w.Close(); err != nil {
		return file, err
	}
	m.ContentHash = artifact.ContentHash(m.Tensors)
	return artifact.HashFile(ctx, path, artifact.WeightsFile, nil)
}

// describe sets the relative error of a matrix against the teacher.
func (r *tuneRun) describe(pool *compute.Pool, st *storedTensor, m *artifact.Manifest) {
	at := slices.IndexFunc(m.Plan.Modules, func(x artifact.ModuleRecord) bool { return x.Name == st.Spec.Module() })
	if at < 0 {
		return
	}
	m.Plan.Modules[at].RelError = relativeError(pool, st.matrix, matrixOf(r.teacher, st.Spec))
}

// relativeError returns ‖A−B‖/‖B‖; 0 if both are 0.
func relativeError(pool *compute.Pool, a, b *compute.Matrix) float64 {
	rows, cols := b.Rows(), b.Cols()
	sums := make([][2]float64, rows)
	pool.Run(rows, func(_, r int) {
		x, y := make([]float32, cols), make([]float32, cols)
		a.Row(x, r)
		b.Row(y, r)
		for i := range x {
			d := float64(x[i]) - float64(y[i])
			sums[r][0] += float64(d * d)
			sums[r][1] += float64(float64(y[i]) * float64(y[i]))
		}
	})
	square, norm := 0.0, 0.0
	for _, s := range sums {
		square, norm = square+s[0], norm+s[1]
	}
	if norm == 0 {
		return math.Sqrt(square)
	}
	return math.Sqrt(square / norm)
}

func matrixOf(m *infer.Model, spec model.TensorSpec) *compute.Matrix {
	switch spec.Role {
	case model.Embedding:
		return m.Embedding
	case model.Head:
		return m.Head
	}
	return m.Blocks[spec.Layer].Linear(spec.Kind).Weight
}

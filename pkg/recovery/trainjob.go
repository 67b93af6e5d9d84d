package recovery

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"sort"

	"afmq/internal/disk"
	"afmq/pkg/artifact"
	"afmq/pkg/fault"
	"afmq/pkg/infer"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
)

// TrainJobSchema is the version of a job of afmq_train.
const TrainJobSchema = "afmq.train-job/v1"

// Files of a job, below state/torch in the saved state.
const (
	torchDir  = "torch"
	jobFile   = "job.json"
	inputFile = "inputs.safetensors"
)

// TrainJob is job.json, which describes the steps of a run to afmq_train: everything that they
// depend on and that is not in the saved state. Paths of State, Journal, Lock and Inputs are
// relative to the directory of the job.
type TrainJob struct {
	Schema  string `json:"schema"`
	State   string `json:"state"`   // recovery.safetensors, from which the worker continues
	Journal string `json:"journal"` // with the metrics
	Lock    string `json:"lock"`    // that whoever writes the state holds
	// Inputs is a safetensors file: tokens [n] with starts [documents + 1] of the training text,
	// validation with validation_starts of its sequences, factors.NAME, by which inputs are made
	// white, and weights.MODEL.NAME, matrices in forms that the worker does not read, dequantized.
	Inputs string `json:"inputs"`

	Base     TrainModel     `json:"base"`
	Teacher  *TrainModel    `json:"teacher"` // null without one
	Students []TrainStudent `json:"students"`

	Seed      int64 `json:"seed"`      // of the order of the text
	Separator int32 `json:"separator"` // between documents; -1 for none
	SeqLen    int   `json:"seq_len"`   // tokens in a sequence
	Sequences int   `json:"sequences"` // in a step, of all processes together

	Steps       int64   `json:"steps"`
	EvalEvery   int64   `json:"eval_every"`   // steps between two evaluations on the validation text
	SaveEvery   int64   `json:"save_every"`   // most steps between two saved states
	SaveSeconds float64 `json:"save_seconds"` // most time between two saved states

	KL          float64 `json:"kl"` // weights of the divergence and of the cross-entropy in the loss
	CE          float64 `json:"ce"`
	Temperature float64 `json:"temperature"`
	TeacherTopK int     `json:"teacher_top_k"` // largest logits of the teacher that the divergence takes; 0 for all
	Rate        float64 `json:"rate"`          // highest learning rate
	Warmup      float64 `json:"warmup"`        // share of the steps
	WeightDecay float64 `json:"weight_decay"`
	Clip        float64 `json:"clip"`   // largest norm of the gradient; 0 for no limit
	Stored      string  `json:"stored"` // type of stored adapters: F16, F32 or F8_E4M3

	Compute    string   `json:"compute"`     // f32 or bf16
	Parallel   Parallel `json:"parallel"`    // ddp or fsdp
	MicroBatch int      `json:"micro_batch"` // sequences in a forward pass of a process
	Packed     bool     `json:"packed"`      // palettes stay packed
	Compile    bool     `json:"compile"`     // torch.compile
	Recompute  bool     `json:"recompute"`   // each layer in the backward pass
}

// TrainModel describes a model: where its weights are, and what the forward pass needs.
type TrainModel struct {
	Path       string        `json:"path"` // directory
	Files      []TrainFile   `json:"files"`
	Tensors    []TrainTensor `json:"tensors"` // of the model, in canonical order, whatever their stored form
	Layers     int           `json:"layers"`
	Heads      int           `json:"heads"`
	KVHeads    int           `json:"kv_heads"`
	HeadDim    int           `json:"head_dim"`
	VocabSize  int           `json:"vocab_size"`
	RMSNormEps float64       `json:"rms_norm_eps"`
	Windows    []int         `json:"windows"`    // of each layer: positions that a token attends to; 0 for all
	GroupRows  int           `json:"group_rows"` // rows that share a look-up table; 0 without palettes
	Rope       []TrainRope   `json:"rope"`
}

// TrainFile is a file of weights and its content.
type TrainFile struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// TrainTensor is a tensor of a model.
type TrainTensor struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
}

// TrainRope is the rotary embedding of sequences of at most Positions tokens that no earlier
// entry has.
type TrainRope struct {
	Positions   int       `json:"positions"`
	Frequencies []float64 `json:"frequencies"` // angle per position, of each pair of dimensions
	Factor      float64   `json:"factor"`      // on cosine and sine
}

// TrainStudent is an adapter.
type TrainStudent struct {
	Rank  int         `json:"rank"`
	Parts []TrainPart `json:"parts"` // in the order of the saved values
}

// TrainPart is the adapter of one module.
type TrainPart struct {
	Layer   int     `json:"layer"`
	Kind    string  `json:"kind"`
	Rank    int     `json:"rank"`
	Rows    int     `json:"rows"`
	Columns int     `json:"columns"`
	Scale   float64 `json:"scale"`  // of B·A
	Factor  string  `json:"factor"` // NAME of the factor of its input
}

// writeJob writes the job of the remaining steps, with the program, and returns its path.
func (r *run) writeJob(ctx context.Context, t *trainer) (string, error) {
	dir := t.dir.StatePath(torchDir)
	if err := writeWorker(filepath.Join(dir, workerPackage)); err != nil {
		return "", err
	}
	in := &jobInputs{}
	base, err := in.model(ctx, "base", t.base, r.opts.SeqLen)
	if err != nil {
		return "", err
	}
	o := r.opts
	job := &TrainJob{
		Schema: TrainJobSchema, State: "../" + stateFile, Inputs: inputFile, Base: *base,
		Seed: o.Seed, Separator: r.data.separator, SeqLen: o.SeqLen, Sequences: t.sequences,
		Steps: t.steps, EvalEvery: t.evalEvery, SaveEvery: int64(math.Ceil(saveShare * float64(t.steps))), SaveSeconds: saveEvery.Seconds(),
		KL: t.loss.kl, CE: t.loss.ce, Temperature: t.loss.temperature, TeacherTopK: o.TeacherTopK,
		Rate: o.Rate, Warmup: max(o.Warmup, 0), WeightDecay: o.WeightDecay, Clip: max(o.Clip, 0), Stored: o.stored().String(),
		Compute: o.Compute.String(), Parallel: o.Torchrun.Parallel, MicroBatch: o.Torchrun.MicroBatch,
		Packed: o.Torchrun.Packed, Compile: o.Torchrun.Compile, Recompute: o.Recompute,
	}
	if job.MicroBatch == 0 {
		job.MicroBatch = t.part
	}
	for file, at := range map[string]*string{t.dir.JournalPath(): &job.Journal, t.dir.LockPath(): &job.Lock} {
		if *at, err = filepath.Rel(dir, file); err != nil {
			return "", err
		}
	}
	if r.teacher != nil {
		if job.Teacher, err = in.model(ctx, "teacher", r.teacher, o.SeqLen); err != nil {
			return "", err
		}
	}
	for _, s := range t.adapters {
		job.Students = append(job.Students, in.student(s))
	}
	in.text(r.data)
	if err := in.write(filepath.Join(dir, inputFile)); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(job, "", "  ")
	if err != nil {
		return "", err
	}
	path, err := filepath.Abs(filepath.Join(dir, jobFile))
	if err != nil {
		return "", err
	}
	return path, disk.WriteFile(path, append(text, '\n'))
}

// jobInputs are the tensors of a job. Each is made when it is written.
type jobInputs struct {
	infos []safetensors.Info
	emit  []func(write func([]byte) error) error
}

func (in *jobInputs) add(name string, dtype safetensors.DType, shape []int, emit func(write func([]byte) error) error) {
	in.infos = append(in.infos, safetensors.Info{Name: name, DType: dtype, Shape: shape})
	in.emit = append(in.emit, emit)
}

// rows adds a matrix that row writes one row of.
func (in *jobInputs) rows(name string, rows, cols int, row func(dst []float32, i int)) {
	in.add(name, safetensors.F32, []int{rows, cols}, func(write func([]byte) error) error {
		buf := make([]float32, cols)
		for i := range rows {
			row(buf, i)
			if err := writeValues(write, buf); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeValues[T float32 | int32 | int64](write func([]byte) error, v []T) error {
	data, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		return err
	}
	return write(data)
}

func (in *jobInputs) write(path string) error {
	w, err := safetensors.Create(path, in.infos, nil)
	if err != nil {
		return err
	}
	for _, emit := range in.emit {
		if err := emit(w.Append); err != nil {
			w.Abort()
			return err
		}
	}
	return w.Close()
}

// model describes a model for sequences of up to length tokens. It adds the matrices on grids that the worker does not read.
func (in *jobInputs) model(ctx context.Context, name string, m *infer.Model, length int) (*TrainModel, error) {
	c := m.Config
	dir, err := filepath.Abs(m.Dir)
	if err != nil {
		return nil, fault.Reading(m.Dir, err)
	}
	d := &TrainModel{
		Path: dir, Layers: c.Layers, Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim,
		VocabSize: c.VocabSize, RMSNormEps: c.RMSNormEps, Rope: ropes(c, length),
	}
	if d.Files, err = hashWeights(ctx, dir); err != nil {
		return nil, err
	}
	for l := range c.Layers {
		d.Windows = append(d.Windows, c.Window(l))
	}
	for _, spec := range c.Tensors() {
		d.Tensors = append(d.Tensors, TrainTensor{spec.Name, spec.Shape})
	}
	if m.Manifest == nil {
		return d, nil
	}
	d.GroupRows = c.Quantization.GroupRows
	layout, err := artifact.StoredLayout(c, d.GroupRows, m.Manifest.Tensors)
	if err != nil {
		return nil, fault.Inputf(dir, "%v", err)
	}
	for _, st := range layout {
		if !st.Form.OnGrid() || st.Form == artifact.Palette {
			continue
		}
		w := m.Embedding
		switch st.Spec.Role {
		case model.Head:
			w = m.Head
		case model.Projection:
			w = m.Blocks[st.Spec.Layer].Linear(st.Spec.Kind).Weight
		}
		in.rows("weights."+name+"."+st.Spec.Name, st.Spec.Shape[0], st.Spec.Shape[1], w.Row)
	}
	return d, nil
}

// hashWeights returns the files of weights of a directory.
func hashWeights(ctx context.Context, dir string) (files []TrainFile, err error) {
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	for _, path := range ckpt.Files() {
		d, err := artifact.HashFile(ctx, path, filepath.Base(path), nil)
		if err != nil {
			return nil, err
		}
		files = append(files, TrainFile{path, d.Bytes, d.SHA256})
	}
	return files, nil
}

// ropes returns the rotary embedding of sequences of up to length tokens.
func ropes(c *model.Config, length int) (out []TrainRope) {
	for from := 1; from <= length; {
		regime := c.Rope.Regime(from)
		n := from + sort.Search(length-from, func(i int) bool { return c.Rope.Regime(from+i+1) != regime })
		inv, factor := c.Rope.Frequencies(c.HeadDim, n)
		out = append(out, TrainRope{n, inv, factor})
		from = n + 1
	}
	return out
}

// student describes an adapter. It adds the factors of its inputs, which all adapters share.
func (in *jobInputs) student(s *student) TrainStudent {
	d := TrainStudent{Rank: s.config.Rank}
	names := map[*choleskyFactor]string{}
	for i := range s.parts {
		p := &s.parts[i]
		f := p.factor
		if names[f] == "" {
			names[f] = p.name
			in.factor("factors."+p.name, f)
		}
		d.Parts = append(d.Parts, TrainPart{p.spec.Layer, p.spec.Kind, p.rank, p.spec.Shape[0], p.spec.Shape[1], float64(p.scale), names[f]})
	}
	return d
}

// factor adds the inverse of a factor, or the factor where it is diagonal, unless it is there.
func (in *jobInputs) factor(name string, f *choleskyFactor) {
	switch {
	case slices.ContainsFunc(in.infos, func(i safetensors.Info) bool { return i.Name == name }):
	case f.diagonal == nil:
		in.rows(name, f.n, f.n, f.inverse.Row)
	default:
		in.add(name, safetensors.F32, []int{f.n}, func(write func([]byte) error) error { return writeValues(write, f.diagonal) })
	}
}

// text adds the training and validation text.
func (in *jobInputs) text(c *corpus) {
	in.tokens("tokens", "starts", c.train)
	in.tokens("validation", "validation_starts", c.validation)
}

// tokens adds texts, one after the other, and the positions at which they start and the last ends.
func (in *jobInputs) tokens(name, starts string, texts [][]int32) {
	at := make([]int64, len(texts)+1)
	for i, t := range texts {
		at[i+1] = at[i] + int64(len(t))
	}
	in.add(name, safetensors.I32, []int{int(at[len(texts)])}, func(write func([]byte) error) error {
		for _, t := range texts {
			if err := writeValues(write, t); err != nil {
				return err
			}
		}
		return nil
	})
	in.add(starts, safetensors.I64, []int{len(at)}, func(write func([]byte) error) error { return writeValues(write, at) })
}

// jobBytes returns about how much space the job of a run takes.
func (r *run) jobBytes() int64 {
	n := 4 * int64(r.data.trainTokens())
	seen := map[place]bool{}
	for i := range r.students[0].parts {
		spec := r.students[0].parts[i].spec
		key := place{spec.Layer, model.InputGroup(spec.Kind)[0]}
		if cols := int64(spec.Shape[1]); !seen[key] && cols <= widestWhole {
			seen[key], n = true, n+4*cols*cols
		}
	}
	return n
}

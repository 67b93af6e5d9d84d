package infer

import (
	"os"

	"afmq/internal/kernel"
	"afmq/pkg/compute"
	"afmq/pkg/fault"
	"afmq/pkg/model"
	"afmq/pkg/safetensors"
	"afmq/pkg/tokenizer"
)

// Linear is one projection, Y = X·Wᵀ + b, whatever its weights are stored as, plus what
// an adapter adds.
type Linear struct {
	Weight  *compute.Matrix // [out, in]
	Bias    []float32       // [out], nil for none
	Adapter *LowRank        // nil for none
}

// Apply computes y [n, out] from x [n, in].
func (l *Linear) Apply(pool *compute.Pool, y, x []float32, n int) {
	var low []float32
	l.apply(pool, y, x, n, &low)
}

// apply is Apply with room for what the adapter makes of x, Scale·A·x [n, rank], which
// it leaves there.
func (l *Linear) apply(pool *compute.Pool, y, x []float32, n int, low *[]float32) {
	pool.MulT(y, x, n, l.Weight)
	if a := l.Adapter; a != nil {
		*low = grow(*low, n*a.Rank())
		pool.MulT(*low, x, n, a.A)
		kernel.Scale(*low, a.Scale)
		pool.MulTAdd(y, *low, n, a.B)
	}
	if l.Bias == nil {
		return
	}
	out := l.Weight.Rows()
	for i := range n {
		kernel.Add(y[i*out:(i+1)*out], l.Bias)
	}
}

// Block holds the weights of one transformer layer.
type Block struct {
	InputNorm         []float32 // [hidden]
	Q, K, V, O        Linear    // [heads·head_dim, hidden], 2 × [kv_heads·head_dim, hidden], [hidden, heads·head_dim]
	QNorm, KNorm      []float32 // [head_dim], nil where the family has no QK-norm
	PostAttentionNorm []float32 // [hidden]
	Gate, Up, Down    Linear    // 2 × [intermediate, hidden], [hidden, intermediate]
}

// applyBack computes the gradient dx [n, in] of a loss with respect to x from g [n,
// out], that with respect to y; or adds it. low receives Scale·Bᵀ·g [n, rank].
func (l *Linear) applyBack(pool *compute.Pool, dx, g []float32, n int, add bool, low *[]float32) {
	if add {
		pool.MulAdd(dx, g, n, l.Weight)
	} else {
		pool.Mul(dx, g, n, l.Weight)
	}
	if a := l.Adapter; a != nil {
		*low = grow(*low, n*a.Rank())
		pool.Mul(*low, g, n, a.B)
		kernel.Scale(*low, a.Scale)
		pool.MulAdd(dx, *low, n, a.A)
	}
}

// Model is a checkpoint or an artifact in memory: its weights, packed for the
// matrix products, its configuration and its tokenizer. It holds no file open
// and is never written to, so any number of runners may share it.
type Model struct {
	Dir       string
	Config    *model.Config
	Tokenizer *tokenizer.Tokenizer
	Embedding *compute.Matrix // [vocab, hidden]
	Blocks    []Block
	FinalNorm []float32       // [hidden]
	Head      *compute.Matrix // [vocab, hidden]; the embedding itself where it is tied
}

// Open reads the checkpoint or artifact in dir. Every tensor that config.json
// implies must be there in its exact shape, and no other; the tokenizer must not
// be able to emit an id that the embedding has no row for. An error names the
// file and the tensor and is of kind [fault.Input].
func Open(dir string, pool *compute.Pool) (*Model, error) {
	m, err := OpenWeights(dir, pool)
	if err != nil {
		return nil, err
	}
	if m.Tokenizer, err = model.OpenTokenizer(dir, m.Config); err != nil {
		return nil, err
	}
	return m, nil
}

// OpenWeights is [Open] without the tokenizer, for callers that have token ids.
func OpenWeights(dir string, pool *compute.Pool) (*Model, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fault.Reading(dir, err)
	} else if !info.IsDir() {
		return nil, fault.Inputf(dir, "not a directory; expected one with config.json and model.safetensors")
	}
	cfg, err := model.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	ckpt, err := safetensors.OpenCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()

	m := &Model{Dir: dir, Config: cfg, Blocks: make([]Block, cfg.Layers)}
	s := &store{dir: dir, cfg: cfg, ckpt: ckpt, used: map[string]bool{}}
	jobs, err := m.plan(s)
	if err != nil {
		return nil, err
	}
	if err := s.leftover(); err != nil {
		return nil, err
	}
	errs := make([]error, len(jobs))
	pool.Run(len(jobs), func(_, i int) {
		errs[i] = safetensors.Guard(jobs[i].path, jobs[i].load)
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	if m.Head == nil {
		m.Head = m.Embedding
	}
	return m, nil
}

// plan finds every tensor of the model and says where each goes.
func (m *Model) plan(s *store) ([]job, error) {
	var jobs []job
	for _, spec := range m.Config.Tensors() {
		j, err := m.place(s, spec)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

func (m *Model) place(s *store, spec model.TensorSpec) (job, error) {
	var b *Block
	if spec.Layer >= 0 {
		b = &m.Blocks[spec.Layer]
	}
	switch spec.Role {
	case model.Embedding:
		return s.matrix(spec, &m.Embedding)
	case model.Head:
		return s.matrix(spec, &m.Head)
	case model.Projection:
		return s.matrix(spec, &b.Linear(spec.Kind).Weight)
	case model.Bias:
		return s.vector(spec, &b.Linear(spec.Kind).Bias)
	}
	return s.vector(spec, m.norm(b, spec.Kind))
}

// SetMatrix puts a packed weight [out, in] into its place: the embedding, which is also
// the head where that is tied, a projection or the head. With SetVector it builds a model
// part by part, for callers that have no checkpoint of it.
func (m *Model) SetMatrix(spec model.TensorSpec, w *compute.Matrix) {
	switch spec.Role {
	case model.Embedding:
		m.Embedding = w
		if m.Config.TieEmbeddings {
			m.Head = w
		}
	case model.Head:
		m.Head = w
	case model.Projection:
		m.Blocks[spec.Layer].Linear(spec.Kind).Weight = w
	default:
		panic("infer: SetMatrix: " + spec.Name + " is no matrix")
	}
}

// SetVector puts the weight of a norm or a bias into its place.
func (m *Model) SetVector(spec model.TensorSpec, v []float32) {
	var b *Block
	if spec.Layer >= 0 {
		b = &m.Blocks[spec.Layer]
	}
	switch spec.Role {
	case model.Norm:
		*m.norm(b, spec.Kind) = v
	case model.Bias:
		b.Linear(spec.Kind).Bias = v
	default:
		panic("infer: SetVector: " + spec.Name + " is no vector")
	}
}

// Linear returns the projection called kind, "q_proj" to "down_proj".
func (b *Block) Linear(kind string) *Linear {
	switch kind {
	case "q_proj":
		return &b.Q
	case "k_proj":
		return &b.K
	case "v_proj":
		return &b.V
	case "o_proj":
		return &b.O
	case "gate_proj":
		return &b.Gate
	case "up_proj":
		return &b.Up
	case "down_proj":
		return &b.Down
	}
	panic("infer: no projection is called " + kind)
}

func (m *Model) norm(b *Block, kind string) *[]float32 {
	switch kind {
	case "input_layernorm":
		return &b.InputNorm
	case "post_attention_layernorm":
		return &b.PostAttentionNorm
	case "q_norm":
		return &b.QNorm
	case "k_norm":
		return &b.KNorm
	case "norm":
		return &m.FinalNorm
	}
	panic("infer: no norm is called " + kind)
}
